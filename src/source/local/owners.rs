//! Names of users and groups, each asked of the system once.

use crate::base::metadata::Owner;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

/// Pairs of numbers kept; more than any system has, so only a hostile tree gets there.
const OWNERS_MAX: usize = 16 * 1024;

/// Shared by all threads of one source.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<HashMap<(u32, u32), Arc<Owner>>>);

impl Owners {
    fn get(&self, uid: u32, gid: u32) -> Arc<Owner> {
        let mut known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(owner) = known.get(&(uid, gid)) {
            return Arc::clone(owner);
        }
        if known.len() >= OWNERS_MAX {
            known.clear();
        }
        let owner = Arc::new(look_up(uid, gid));
        known.insert((uid, gid), Arc::clone(&owner));
        owner
    }
}

/// A number without a name, or whose name cannot be asked for, keeps an empty one.
fn look_up(uid: u32, gid: u32) -> Owner {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    let group = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(gid)).ok().flatten();
    Owner {
        uid,
        gid,
        user: user.map(|user| user.name).unwrap_or_default(),
        group: group.map(|group| group.name).unwrap_or_default(),
    }
}

/// One thread's view: neighbours mostly have one owner, and then no lock is taken.
#[derive(Debug)]
pub(super) struct OwnerCache {
    owners: Arc<Owners>,
    last: Option<Arc<Owner>>,
}

impl OwnerCache {
    /// Makes a view of `owners`.
    pub(super) fn new(owners: Arc<Owners>) -> Self {
        OwnerCache { owners, last: None }
    }

    /// Returns the owner with these numbers.
    pub(super) fn get(&mut self, uid: u32, gid: u32) -> Arc<Owner> {
        if let Some(last) = &self.last
            && last.uid == uid
            && last.gid == gid
        {
            return Arc::clone(last);
        }
        let owner = self.owners.get(uid, gid);
        self.last = Some(Arc::clone(&owner));
        owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_strange_number_has_none() {
        let mut cache = OwnerCache::new(Arc::new(Owners::default()));

        assert_eq!(cache.get(0, 0).user, "root");
        assert_eq!(cache.get(3_999_999_999, 0).user, "");
        assert_eq!(cache.get(0, 0).uid, 0);
    }
}
