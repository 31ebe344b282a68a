//! Which group a login is in (`specs/server-auth.md` §1.6).

use culvert_vocab::GroupName;

/// What the client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) enum GroupWish {
    /// Nothing, or the host's `default-select-group`.
    None,
    /// This group.
    Group(GroupName),
    /// Something that no group can be called: nobody is a member of it.
    Impossible,
}

impl GroupWish {
    /// Validates what the client sent.
    pub(in crate::broker) fn new(wish: Option<&str>, default_select_group: Option<&str>) -> Self {
        match wish {
            None | Some("") => Self::None,
            Some(wish) if default_select_group == Some(wish) => Self::None,
            Some(wish) => GroupName::new(wish).map_or(Self::Impossible, Self::Group),
        }
    }
}

/// The user is not a member of the group that he asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct NotAMember;

/// The group in force for a member of `groups`: the one asked for, else the first.
pub(in crate::broker) fn choose(
    groups: &[GroupName],
    wish: &GroupWish,
) -> Result<Option<GroupName>, NotAMember> {
    match wish {
        GroupWish::None => Ok(groups.first().cloned()),
        GroupWish::Group(wish) if groups.contains(wish) => Ok(Some(wish.clone())),
        GroupWish::Group(_) | GroupWish::Impossible => Err(NotAMember),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupName {
        GroupName::new(name).unwrap()
    }

    #[test]
    fn membership_decides() {
        let groups = [group("staff"), group("admins")];
        let wish = |text| GroupWish::new(text, Some("any"));
        assert_eq!(choose(&groups, &wish(None)), Ok(Some(group("staff"))));
        assert_eq!(choose(&groups, &wish(Some("any"))), Ok(Some(group("staff"))));
        assert_eq!(choose(&groups, &wish(Some("admins"))), Ok(Some(group("admins"))));
        assert_eq!(choose(&groups, &wish(Some("root"))), Err(NotAMember));
        assert_eq!(choose(&groups, &wish(Some("a\nb"))), Err(NotAMember));
        assert_eq!(choose(&[], &wish(None)), Ok(None));
        assert_eq!(choose(&[], &wish(Some("staff"))), Err(NotAMember));
    }
}
