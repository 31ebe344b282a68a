//! Groups of the system's users (`specs/server-auth.md` §1.6).

use culvert_sys::user;
use culvert_vocab::{GROUPS_MAX, GroupName};

/// Names of the groups of a user of the system, the primary one first; none for others.
pub(super) fn of_system(name: &str) -> Vec<GroupName> {
    let Ok(Some(user)) = user::by_name(name) else {
        return Vec::new();
    };
    let Ok(ids) = user::groups_of(name, user.gid, GROUPS_MAX) else {
        return Vec::new();
    };
    ids.into_iter()
        .filter_map(|id| user::group_by_gid(id).ok().flatten())
        .filter_map(|group| GroupName::new(&group.name).ok())
        .collect()
}
