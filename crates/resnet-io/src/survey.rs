//! What a set of pictures is like: every sample read and decoded once, and what they have in common.
//!
//! [`survey`] measures; [`Survey::findings`] says what is wrong: broken files, names that lie about the
//! format, equal and nearly equal pictures, pictures of the training part that are in another part,
//! classes that a part lacks, classes of very different sizes.

mod findings;
mod measure;
mod statistics;
mod twins;

pub use self::findings::{ClassCount, Finding, Problem, Summary};
pub use self::measure::{BadKind, Good, Measured, Picture};
pub use self::statistics::{Side, Statistics};
use crate::readable::{for_each, pool};
use crate::source::{DataSet, Source};

/// What a picture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// To learn from.
    Train,
    /// To choose by.
    Val,
    /// To report on.
    Test,
    /// For nothing: it has no class, or is no picture by its name.
    Unused,
}

impl Part {
    /// Its name, as folders have it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
            Part::Unused => "unused",
        }
    }
}

/// Every sample of a set, measured.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// In the order train, val, test, unused, and of each part.
    pub pictures: Vec<Picture>,
    /// The classes of each part that is there, in the part's order.
    pub classes: Vec<(Part, Vec<String>)>,
}

/// The parts of a set that are there.
pub fn parts(set: &DataSet) -> Vec<(Part, &dyn Source)> {
    let all = [
        (Part::Train, &set.train),
        (Part::Val, &set.val),
        (Part::Test, &set.test),
        (Part::Unused, &set.others),
    ];
    let there = |(part, source): (Part, _)| Option::as_ref(source).map(|s| (part, s));
    all.into_iter().filter_map(there).map(|(part, source)| (part, source.as_ref())).collect()
}

/// Reads and decodes every sample of a set on `threads` threads. `on_sample` is called after each, by
/// any of them.
pub fn survey(set: &DataSet, threads: usize, on_sample: &(dyn Fn() + Sync)) -> Survey {
    let mut survey = Survey::default();
    let pool = pool(threads);
    for (part, source) in parts(set) {
        if part != Part::Unused {
            survey.classes.push((part, source.classes().to_vec()));
        }
        let measured = pool.install(|| {
            let measure = |index| {
                let measured = measure::measure(source, index, part);
                on_sample();
                measured
            };
            for_each(source, 0..source.len(), measure)
        });
        survey.pictures.extend(measured);
    }
    survey
}
