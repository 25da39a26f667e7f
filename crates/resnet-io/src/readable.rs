//! Reading every sample of a source at once, to know what is broken before it matters.

use std::ops::Range;

use rayon::prelude::*;

use crate::decode::decode;
use crate::error::DataError;
use crate::source::{Asked, Encoded, Source};

/// Samples that are asked for at once where pictures come from far away: while so many are worked on, so many come.
const ASKED: usize = 64;

/// Checks that every sample can be read and decoded, on `threads` threads.
///
/// # Errors
/// [`DataError::BrokenPictures`] with the number of those that cannot, and the first of them.
pub fn check(source: &dyn Source, threads: usize) -> Result<(), DataError> {
    let problems =
        pool(threads).install(|| for_each(source, 0..source.len(), |index| problem(source, index)));
    let broken: Vec<DataError> = problems.into_iter().flatten().collect();
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

/// What `work` makes of each sample of a range, in order; on the threads of the pool that this is called in.
pub(crate) fn for_each<T: Send>(
    source: &dyn Source,
    range: Range<usize>,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let mut made = Vec::with_capacity(range.len());
    in_parts(source, range, |part| made.par_extend(part.into_par_iter().map(&work)));
    made
}

/// Has a range worked on in parts that follow each other; the next is asked for before one is worked on. Where the
/// source brings nothing ahead, the range is one part.
pub(crate) fn in_parts(
    source: &dyn Source,
    range: Range<usize>,
    mut work: impl FnMut(Range<usize>),
) {
    let part = |start: usize| start.min(range.end)..range.end.min(start + ASKED);
    let ask = |part: Range<usize>| -> Option<Asked> {
        if part.is_empty() { None } else { source.ask(&part.collect::<Vec<usize>>()) }
    };
    let mut asked = ask(part(range.start));
    if asked.is_none() {
        return work(range);
    }
    for start in range.clone().step_by(ASKED) {
        let next = ask(part(start + ASKED));
        work(part(start));
        // What was read is given up.
        asked = next;
    }
    drop(asked);
}

/// Threads for work over a whole set, which ends with it.
pub(crate) fn pool(threads: usize) -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    pool.expect("the system has room for a few threads")
}
