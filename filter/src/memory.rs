//! How many bytes of bodies one VM holds.
//!
//! A VM that runs out of memory dies and takes its held requests with it, so what is
//! read ahead of the body's end is bounded, and what is worked off in slices as well.

use std::cell::Cell;
use std::rc::Rc;

/// The bytes held by all requests of a VM.
#[derive(Clone, Debug, Default)]
pub struct Memory(Rc<Cell<usize>>);

/// One request's part of it, given back when dropped.
#[derive(Debug)]
pub struct Share {
    all: Rc<Cell<usize>>,
    bytes: usize,
}

impl Memory {
    /// Bytes held by all.
    pub fn held(&self) -> usize {
        self.0.get()
    }

    /// A new request's part, nothing yet.
    pub fn share(&self) -> Share {
        Share { all: Rc::clone(&self.0), bytes: 0 }
    }
}

impl Share {
    /// Bytes held by all.
    pub fn held_by_all(&self) -> usize {
        self.all.get()
    }

    /// Makes the part so large.
    pub fn set(&mut self, bytes: usize) {
        let others = self.all.get().saturating_sub(self.bytes);
        self.all.set(others.saturating_add(bytes));
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back() {
        let memory = Memory::default();
        let (mut one, mut other) = (memory.share(), memory.share());
        one.set(10);
        other.set(5);
        one.set(12);
        assert_eq!(memory.held(), 17);
        drop(one);
        assert_eq!((memory.held(), other.held_by_all()), (5, 5));
    }
}
