//! A source that keeps in memory what it has decoded, as far as it fits.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Asked, Encoded, Labels, Source};
use crate::decode::{Exif, decode_by};
use crate::error::DataError;
use crate::picture::Image;

/// The samples of a source; pictures are read and decoded once, until the memory for them is used up.
///
/// What is read is the same with it as without.
pub struct Cached {
    source: Arc<dyn Source>,
    exif: Exif,
    kept: Vec<OnceLock<Image>>,
    left: AtomicU64,
}

impl Cached {
    /// Keeps up to so many bytes of pixels, turned as `exif` says.
    pub fn new(source: Arc<dyn Source>, exif: Exif, bytes: u64) -> Cached {
        let kept = (0..source.len()).map(|_| OnceLock::new()).collect();
        Cached { source, exif, kept, left: AtomicU64::new(bytes) }
    }

    /// The bytes of pixels that it could still keep.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes memory for a picture, if there is enough.
    fn take(&self, bytes: u64) -> bool {
        let taken = |left: u64| left.checked_sub(bytes);
        // Only a count: nothing else is ordered by it.
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

impl Source for Cached {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.source.label(index)
    }

    fn labels(&self, index: usize) -> Labels<'_> {
        self.source.labels(index)
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn key(&self, index: usize) -> String {
        self.source.key(index)
    }

    fn id(&self, index: usize) -> u64 {
        self.source.id(index)
    }

    fn group(&self, index: usize) -> Option<&str> {
        self.source.group(index)
    }

    fn ask(&self, samples: &[usize]) -> Option<Asked> {
        let missing = samples.iter().copied().filter(|&index| self.kept[index].get().is_none());
        let missing: Vec<usize> = missing.collect();
        self.source.ask(&missing)
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        if let Some(image) = self.kept[index].get() {
            return Ok(Encoded::Pixels(image.view()));
        }
        let encoded = self.source.read(index)?;
        let Encoded::File(bytes) = &encoded else { return Ok(encoded) };
        if self.left() == 0 {
            return Ok(encoded);
        }
        // Whoever reads a broken file will find out by itself what is wrong with it.
        let Ok(image) = decode_by(&self.source.name(index), bytes, self.exif) else {
            return Ok(encoded);
        };
        if self.take(image.pixels.len() as u64) {
            let image = self.kept[index].get_or_init(|| image);
            return Ok(Encoded::Pixels(image.view()));
        }
        // The first picture that does not fit ends the keeping: from now on none is decoded in vain.
        self.left.store(0, Ordering::Relaxed);
        Ok(encoded)
    }
}

/// Half of the memory that the system and this process's group still have, where they tell.
pub fn memory_to_spare() -> Option<u64> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = 1024 * line.split_whitespace().next()?.parse::<u64>().ok()?;
    let group = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(most, used)| most.saturating_sub(used));
    Some(group.unwrap_or(u64::MAX).min(available) / 2)
}
