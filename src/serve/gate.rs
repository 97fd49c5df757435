//! How many are in, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

/// Counts sessions.
#[derive(Debug)]
pub(super) struct Gate {
    inside: Arc<Mutex<HashMap<IpAddr, usize>>>,
    all: usize,
    of_one: usize,
}

impl Gate {
    /// Lets so many in, in all and from one address.
    pub(super) fn new(all: usize, of_one: usize) -> Self {
        Gate { inside: Arc::default(), all, of_one }
    }

    /// Lets one more in, as long as it holds what is returned; None when it is full.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Ticket> {
        let mut inside = locked(&self.inside);
        let of_one = inside.get(&address).copied().unwrap_or(0);
        if of_one >= self.of_one || inside.values().sum::<usize>() >= self.all {
            return None;
        }
        inside.insert(address, of_one + 1);
        Some(Ticket { inside: Arc::clone(&self.inside), address })
    }
}

/// One who is in.
#[derive(Debug)]
pub(super) struct Ticket {
    inside: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inside = locked(&self.inside);
        match inside.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(inside.remove(&self.address)),
        }
    }
}

fn locked(inside: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    inside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_makes_room() {
        let gate = Gate::new(3, 2);
        let [a, b, c]: [IpAddr; 3] = [1, 2, 3].map(|last| [10, 0, 0, last].into());
        let first = gate.enter(a).unwrap();
        let _second = gate.enter(a).unwrap();
        assert!(gate.enter(a).is_none(), "two of one");
        let _third = gate.enter(b).unwrap();
        assert!(gate.enter(c).is_none(), "three in all");
        drop(first);
        assert!(gate.enter(c).is_some());
        assert_eq!(locked(&gate.inside).len(), 2);
    }
}
