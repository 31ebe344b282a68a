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

    /// For the log.
    pub(in crate::broker) fn shown(&self) -> &str {
        match self {
            Self::None => "",
            Self::Group(group) => group.as_str(),
            Self::Impossible => "(no valid name)",
        }
    }
}

/// The user is not a member of the group that he asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct NotAMember;

/// The group in force for a member of `groups`: the one asked for, else the first. `certificate`:
/// groups of the certificate that the entry asks for beside the method, which must allow the
/// group, and stand in for those of a method without groups.
pub(in crate::broker) fn choose(
    groups: &[GroupName],
    certificate: Option<&[GroupName]>,
    wish: &GroupWish,
) -> Result<Option<GroupName>, NotAMember> {
    let of_method = if groups.is_empty() {
        certificate
            .filter(|_| *wish != GroupWish::None)
            .unwrap_or_default()
    } else {
        groups
    };
    let group = match wish {
        GroupWish::None => of_method.first(),
        GroupWish::Group(wish) => Some(of_method.iter().find(|group| *group == wish).ok_or(NotAMember)?),
        GroupWish::Impossible => return Err(NotAMember),
    };
    match (certificate, group) {
        (Some(allowed), Some(group)) if allowed.contains(group) => Ok(Some(group.clone())),
        (Some(_), _) => Err(NotAMember),
        (None, group) => Ok(group.cloned()),
    }
}

/// The groups of a certificate that its user has to choose from, when he has not chosen: the
/// `offered` ones. Nothing to choose: `None`.
pub(in crate::broker) fn to_choose_from(
    groups: &[GroupName],
    offered: &[GroupName],
) -> Option<Vec<GroupName>> {
    let eligible = |group: &&GroupName| offered.is_empty() || offered.contains(group);
    let eligible: Vec<_> = groups.iter().filter(eligible).cloned().collect();
    match eligible.len() {
        1 => None,
        0 => (!groups.is_empty()).then(|| groups.to_vec()),
        _ => Some(eligible),
    }
}

/// The one group of a certificate that is eligible, else its first.
pub(in crate::broker) fn only_eligible(groups: &[GroupName], offered: &[GroupName]) -> Option<GroupName> {
    let mut eligible = groups.iter().filter(|group| offered.contains(group));
    match (eligible.next(), eligible.next()) {
        (Some(group), None) => Some(group.clone()),
        _ => groups.first().cloned(),
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
        assert_eq!(choose(&groups, None, &wish(None)), Ok(Some(group("staff"))));
        assert_eq!(
            choose(&groups, None, &wish(Some("any"))),
            Ok(Some(group("staff")))
        );
        assert_eq!(
            choose(&groups, None, &wish(Some("admins"))),
            Ok(Some(group("admins")))
        );
        assert_eq!(choose(&groups, None, &wish(Some("root"))), Err(NotAMember));
        assert_eq!(choose(&groups, None, &wish(Some("a\nb"))), Err(NotAMember));
        assert_eq!(choose(&[], None, &wish(None)), Ok(None));
        assert_eq!(choose(&[], None, &wish(Some("staff"))), Err(NotAMember));
    }
    #[test]
    fn the_certificate_beside_a_method_decides_too() {
        let groups = [group("staff"), group("admins")];
        let admins = [group("admins")];
        let wish = |text| GroupWish::new(text, None);
        let choose = |groups: &[GroupName], text| choose(groups, Some(&admins), &wish(text));
        assert_eq!(choose(&groups, Some("admins")), Ok(Some(group("admins"))));
        assert_eq!(choose(&groups, None), Err(NotAMember), "the first one is staff");
        assert_eq!(choose(&groups, Some("staff")), Err(NotAMember));
        assert_eq!(choose(&[], None), Err(NotAMember), "an empty group");
        assert_eq!(choose(&[], Some("admins")), Ok(Some(group("admins"))));
        assert_eq!(choose(&[], Some("staff")), Err(NotAMember));
    }

    #[test]
    fn users_choose_among_the_groups_of_their_certificate() {
        let [a, b, c] = ["aa", "bb", "cc"].map(group);
        let both = [a.clone(), b.clone()];
        assert_eq!(to_choose_from(&both, &[]), Some(both.to_vec()));
        assert_eq!(to_choose_from(&both, std::slice::from_ref(&b)), None);
        assert_eq!(only_eligible(&both, std::slice::from_ref(&b)), Some(b));
        assert_eq!(
            to_choose_from(&both, std::slice::from_ref(&c)),
            Some(both.to_vec())
        );
        assert_eq!(to_choose_from(std::slice::from_ref(&a), &[]), None);
        assert_eq!(only_eligible(std::slice::from_ref(&a), &[]), Some(a));
        assert_eq!((to_choose_from(&[], &[]), only_eligible(&[], &[])), (None, None));
    }
}
