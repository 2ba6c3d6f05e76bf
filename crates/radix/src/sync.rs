//! The locks, in one place: the model of the concurrency (`tests/model.rs`) puts its
//! own here.

use std::hint::spin_loop;

pub(crate) use parking_lot::{Mutex, RwLockReadGuard, RwLockWriteGuard};

/// Tries before a reader goes to sleep. Writers hold the lock for a microsecond or
/// two, and being woken takes twenty.
const TRIES: u32 = 1000;

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(parking_lot::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        for _ in 0..TRIES {
            if let Some(guard) = self.0.try_read() {
                return guard;
            }
            spin_loop();
        }
        self.0.read()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write()
    }
}
