//! Zeroed memory on cache-line boundaries, with huge pages under large buffers.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
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
/// pages, which the system is asked for (a refusal costs speed only). Those cost nothing until they
/// are touched, and each thread zeroes what it touches first.
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
        let bytes = if layout.size() == 0 {
            NonNull::<T>::dangling().as_ptr().cast()
        } else if is_mapped(layout) {
            map_zeroed(layout)
        } else {
            // SAFETY: the layout's size is not zero.
            unsafe { alloc_zeroed(layout) }
        };
        let Some(start) = NonNull::new(bytes.cast::<T>()) else { handle_alloc_error(layout) };
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

/// Whether such a buffer is mapped by itself: an allocator would write its zeros, and hand out again
/// what others have touched.
fn is_mapped(layout: Layout) -> bool {
    cfg!(target_os = "linux") && HUGE_PAGE_BYTES <= layout.size()
}

/// Fresh zeros from the system at a multiple of the layout's alignment; null if it has no more.
#[cfg(target_os = "linux")]
fn map_zeroed(layout: Layout) -> *mut u8 {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    let (size, align) = (layout.size(), layout.align());
    // Longer by the alignment: what lies before and behind goes back, in whole pages.
    let whole = size.next_multiple_of(align);
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new private mapping, wherever the system wants, touches no memory in use.
    let mapped =
        unsafe { mmap_anonymous(std::ptr::null_mut(), whole + align, access, MapFlags::PRIVATE) };
    let Ok(mapped) = mapped else { return std::ptr::null_mut() };
    let before = mapped.align_offset(align);
    let start = mapped.cast::<u8>().wrapping_add(before);
    // SAFETY: the three ranges are parts of the new mapping, which nobody has a pointer into; the
    // advice changes no contents.
    let refused = unsafe {
        let head = if before == 0 { Ok(()) } else { munmap(mapped, before) };
        let tail = munmap(start.wrapping_add(whole).cast(), align - before);
        [head, tail, madvise(start.cast(), whole, Advice::LinuxHugepage)]
    };
    // Kernels without huge pages refuse; the memory is as good, only slower. Untouched pages that the
    // system would not take back take addresses and nothing else.
    let _ = refused;
    start
}

/// Gives a buffer of [`map_zeroed`] back.
///
/// # Safety
/// `start` came from it with this layout, and nothing points there any more.
#[cfg(target_os = "linux")]
unsafe fn unmap(start: *mut u8, layout: Layout) {
    let whole = layout.size().next_multiple_of(layout.align());
    // SAFETY: as the caller promises.
    let refused = unsafe { rustix::mm::munmap(start.cast(), whole) };
    debug_assert!(refused.is_ok(), "a mapping can be unmapped");
}

#[cfg(not(target_os = "linux"))]
fn map_zeroed(_layout: Layout) -> *mut u8 {
    unreachable!("only Linux maps buffers")
}

#[cfg(not(target_os = "linux"))]
unsafe fn unmap(_start: *mut u8, _layout: Layout) {
    unreachable!("only Linux maps buffers")
}

impl<T: Pod> Drop for AlignedVec<T> {
    fn drop(&mut self) {
        let (layout, bytes) = (layout::<T>(self.len), self.start.as_ptr().cast());
        if layout.size() == 0 {
            return;
        }
        // SAFETY: `zeroed` got `start` with this very layout in the same way; `len` never changes.
        unsafe { if is_mapped(layout) { unmap(bytes, layout) } else { dealloc(bytes, layout) } }
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
