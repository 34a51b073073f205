//! Group commit for a peer that has none: the first caller to arrive leads, and commits what the
//! others queued in the meantime.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::Fault;

/// A store that commits many items at once.
pub trait Commit<T> {
    /// Makes all of them durable, in order.
    fn commit(&mut self, items: Vec<T>) -> Result<(), Fault>;
}

/// A store behind a queue.
#[derive(Debug)]
pub struct GroupCommit<T, S> {
    queue: Mutex<Queue<T>>,
    moved: Condvar,
    store: Mutex<S>,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: Vec<T>,
    /// Items ever queued, and items durable.
    queued: u64,
    durable: u64,
    led: bool,
    failed: bool,
}

impl<T, S: Commit<T>> GroupCommit<T, S> {
    /// A queue in front of a store.
    pub const fn new(store: S) -> Self {
        let queue = Queue { waiting: Vec::new(), queued: 0, durable: 0, led: false, failed: false };
        Self { queue: Mutex::new(queue), moved: Condvar::new(), store: Mutex::new(store) }
    }

    /// Returns when the item is durable.
    pub fn put(&self, item: T) -> Result<(), Fault> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push(item);
        queue.queued += 1;
        let ticket = queue.queued;
        while queue.durable < ticket {
            if queue.failed {
                return Err("an earlier commit failed".into());
            }
            if queue.led {
                queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.led = true;
            let items = std::mem::take(&mut queue.waiting);
            let count = items.len() as u64;
            drop(queue);
            let outcome = self.store.lock().unwrap_or_else(PoisonError::into_inner).commit(items);
            queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.led = false;
            queue.failed = outcome.is_err();
            queue.durable += count;
            self.moved.notify_all();
            outcome?;
        }
        Ok(())
    }
}
