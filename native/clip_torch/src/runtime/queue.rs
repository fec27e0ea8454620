//! Jobs on their way to the inference threads.
//!
//! Not the queue of [`clip::pool`], which decides what runs next: it gives owners turns, refuses
//! what would be late and retries what found no memory. Batches arrive here decided, by the serving
//! that made them. They need first in, first out, and the one thing a pool never does: an end, which
//! drops what waits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue without a bound that several threads take from, until it is closed.
pub(crate) struct Queue<T> {
    /// `None` once it is closed.
    waiting: Mutex<Option<VecDeque<T>>>,
    changed: Condvar,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::new(Some(VecDeque::new())), changed: Condvar::new() }
    }

    /// Gives the item back if the queue is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let Some(waiting) = &mut *self.lock() else {
            return Err(item);
        };
        waiting.push_back(item);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next item; `None` from a closed queue.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut waiting = self.lock();
        loop {
            if let Some(item) = waiting.as_mut()?.pop_front() {
                return Some(item);
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what waits, and wakes whoever waits for it.
    pub(crate) fn close(&self) {
        let rest = self.lock().take();
        self.changed.notify_all();
        // Outside the lock: to drop an item may run anything.
        drop(rest);
    }

    /// Locks without a way to fail: what is inside is whole at every moment.
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
