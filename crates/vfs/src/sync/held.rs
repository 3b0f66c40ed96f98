//! What ranks a thread holds, for the check of the order in builds with debug assertions.

/// A rank that this thread holds until the value is dropped.
#[derive(Debug)]
pub(super) struct Held {
    #[cfg(debug_assertions)]
    rank: u8,
}

#[cfg(not(debug_assertions))]
impl Held {
    pub(super) fn new(_rank: u8) -> Self {
        Self {}
    }
}

#[cfg(debug_assertions)]
mod checked {
    use std::cell::RefCell;

    use super::Held;

    #[cfg(feature = "shuttle")]
    use shuttle::thread_local;

    thread_local! {
        static RANKS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    impl Held {
        /// To be called before the lock is taken: an order that could deadlock is wrong whether it
        /// does so this time or not.
        #[track_caller]
        pub(in crate::sync) fn new(rank: u8) -> Self {
            RANKS.with(|ranks| {
                let mut ranks = ranks.borrow_mut();
                let highest = ranks.iter().copied().max();
                assert!(
                    highest.is_none_or(|highest| highest < rank),
                    "a lock of rank {rank} is taken by a thread that holds {ranks:?} (docs/locks.md)"
                );
                ranks.push(rank);
            });
            Self { rank }
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            // Guards need not be dropped in the reverse order.
            RANKS.with(|ranks| {
                let mut ranks = ranks.borrow_mut();
                if let Some(at) = ranks.iter().rposition(|rank| *rank == self.rank) {
                    ranks.remove(at);
                }
            });
        }
    }
}

#[cfg(all(test, debug_assertions, not(feature = "shuttle")))]
mod tests {
    use crate::sync::{Mutex, RwLock};

    #[test]
    fn locks_are_taken_upwards() {
        let (low, high) = (Mutex::<_, 1>::new(()), RwLock::<_, 2>::new(()));
        let first = low.lock();
        let second = high.read();
        drop(first);
        drop(second);
        drop(high.write());
        drop(low.lock());
    }

    #[test]
    #[should_panic(expected = "a lock of rank 1 is taken by a thread that holds [2]")]
    fn a_lock_is_not_taken_downwards() {
        let (low, high) = (Mutex::<_, 1>::new(()), RwLock::<_, 2>::new(()));
        let _second = high.read();
        let _first = low.lock();
    }

    #[test]
    #[should_panic(expected = "a lock of rank 4 is taken by a thread that holds [4]")]
    fn no_two_locks_of_one_rank_are_held() {
        let (one, two) = (RwLock::<_, 4>::new(()), RwLock::<_, 4>::new(()));
        let _one = one.upgradable_read();
        let _two = two.read();
    }
}
