//! Zeroed memory on cache-line boundaries, with huge pages under large buffers.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytemuck::Pod;

/// A cache line, and the widest vector.
const LINE_BYTES: usize = 64;
/// A huge page of x86-64 and of most ARM systems.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A fixed number of elements, zero at first, aligned to 64 bytes; from 2 MiB on aligned to huge
/// pages, which the system is asked for (a refusal costs speed only).
pub struct AlignedVec<T: Pod> {
    start: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
}

// SAFETY: the vector owns its memory alone, and `Pod` types are plain bits without thread ties.
unsafe impl<T: Pod + Send> Send for AlignedVec<T> {}
// SAFETY: shared access only reads plain bits.
unsafe impl<T: Pod + Sync> Sync for AlignedVec<T> {}

impl<T: Pod> AlignedVec<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// If the size in bytes overflows.
    pub fn zeroed(len: usize) -> AlignedVec<T> {
        let layout = layout::<T>(len);
        if layout.size() == 0 {
            return AlignedVec { start: NonNull::dangling(), len, owns: PhantomData };
        }
        // SAFETY: the layout's size is not zero.
        let bytes = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(bytes.cast::<T>()) else { handle_alloc_error(layout) };
        // The advice comes before the first touch, or the pages would be small already.
        advise_huge_pages(bytes, layout);
        // SAFETY: `bytes` is a fresh allocation of `layout.size()` bytes.
        unsafe { bytes.write_bytes(0, layout.size()) };
        AlignedVec { start, len, owns: PhantomData }
    }

    /// A copy of `x`.
    pub fn from_slice(x: &[T]) -> AlignedVec<T> {
        let mut copy = AlignedVec::zeroed(x.len());
        copy.copy_from_slice(x);
        copy
    }
}

fn layout<T>(len: usize) -> Layout {
    let size = len.checked_mul(size_of::<T>()).expect("a buffer smaller than the address space");
    let align = if size < HUGE_PAGE_BYTES { LINE_BYTES } else { HUGE_PAGE_BYTES };
    Layout::from_size_align(size, align.max(align_of::<T>()))
        .expect("a buffer smaller than the address space")
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(start: *mut u8, layout: Layout) {
    use rustix::mm::{Advice, madvise};
    if layout.align() < HUGE_PAGE_BYTES {
        return;
    }
    // SAFETY: the range is a live allocation of ours, and this advice changes no contents. Only
    // whole huge pages are named, so that no neighbour's memory is.
    let advised = unsafe {
        let whole = layout.size() / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        madvise(start.cast(), whole, Advice::LinuxHugepage)
    };
    // Kernels without huge pages refuse; the memory is as good, only slower.
    let _ = advised;
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_start: *mut u8, _layout: Layout) {}

impl<T: Pod> Drop for AlignedVec<T> {
    fn drop(&mut self) {
        let layout = layout::<T>(self.len);
        if layout.size() != 0 {
            // SAFETY: `zeroed` allocated `start` with this very layout; `len` never changes.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` has `len` initialised elements (zeroed at birth), and `&self` keeps
        // writers away; with no bytes it dangles, aligned, which an empty slice may.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` keeps everyone else away.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Pod> Clone for AlignedVec<T> {
    fn clone(&self) -> AlignedVec<T> {
        AlignedVec::from_slice(self)
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Pod + PartialEq> PartialEq for AlignedVec<T> {
    fn eq(&self, other: &AlignedVec<T>) -> bool {
        self[..] == other[..]
    }
}
