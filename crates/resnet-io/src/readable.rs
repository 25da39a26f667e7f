//! Reading every sample of a source at once, to know what is broken before it matters.

use rayon::prelude::*;

use crate::decode::decode;
use crate::error::DataError;
use crate::source::{Encoded, Source};

/// Checks that every sample can be read and decoded, on `threads` threads.
///
/// # Errors
/// [`DataError::BrokenPictures`] with the number of those that cannot, and the first of them.
pub fn check(source: &dyn Source, threads: usize) -> Result<(), DataError> {
    let broken: Vec<DataError> = pool(threads).install(|| {
        (0..source.len()).into_par_iter().filter_map(|index| problem(source, index)).collect()
    });
    let Some(first) = broken.first() else { return Ok(()) };
    let (first, broken, images) = (first.to_string(), broken.len(), source.len());
    Err(DataError::BrokenPictures { first, broken, images })
}

/// What is wrong with sample `index`, if anything is.
fn problem(source: &dyn Source, index: usize) -> Option<DataError> {
    match source.read(index) {
        Ok(Encoded::Pixels(_)) => None,
        Ok(Encoded::File(bytes)) => decode(&source.name(index), &bytes).err(),
        Err(error) => Some(error),
    }
}

/// Threads for work over a whole set, which ends with it.
pub(crate) fn pool(threads: usize) -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    pool.expect("the system has room for a few threads")
}
