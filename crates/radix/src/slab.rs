//! Numbered slots in pages: growing moves nothing.
//!
//! One vector instead would be copied when it grows, tens of megabytes at once while
//! readers wait, and would need twice its size meanwhile.

const PAGE: usize = 64;

#[derive(Debug)]
pub(crate) struct Slab<T> {
    pages: Vec<Box<[T; PAGE]>>,
    free: Vec<u32>,
    /// Slots that were ever given out.
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T: Default> Slab<T> {
    pub(crate) fn get(&self, id: u32) -> &T {
        &self.pages[id as usize / PAGE][id as usize % PAGE]
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> &mut T {
        &mut self.pages[id as usize / PAGE][id as usize % PAGE]
    }

    /// None for a number that was never given out.
    pub(crate) fn find(&self, id: u32) -> Option<&T> {
        Some(&self.pages.get(id as usize / PAGE)?[id as usize % PAGE])
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            if self.len == self.pages.len() * PAGE {
                self.pages.push(Box::new(std::array::from_fn(|_| T::default())));
            }
            self.len += 1;
            (self.len - 1) as u32
        });
        *self.get_mut(id) = value;
        id
    }

    /// Empties a slot; the last one gives all memory back.
    pub(crate) fn remove(&mut self, id: u32) {
        if self.free.len() + 1 == self.len {
            *self = Self::default();
        } else {
            *self.get_mut(id) = T::default();
            self.free.push(id);
        }
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> usize {
        self.len - self.free.len()
    }

    /// Its own heap, without what the values point to.
    pub(crate) fn heap(&self) -> usize {
        self.pages.capacity() * size_of::<usize>()
            + self.pages.len() * PAGE * size_of::<T>()
            + self.free.capacity() * size_of::<u32>()
    }

    /// All slots ever given out, empty ones too.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.pages.iter().flat_map(|page| page.iter());
        slots.take(self.len).enumerate().map(|(id, slot)| (id as u32, slot))
    }
}
