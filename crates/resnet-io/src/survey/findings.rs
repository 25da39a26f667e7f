//! What is wrong with a set, in lines that each name a file or a class.

use std::collections::HashSet;

use serde::Serialize;

use super::measure::{BadKind, Good, Measured};
use super::{Part, Survey, twins};

/// Something that is wrong, or should be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, or the part.
    pub path: String,
    /// What kind of thing it is.
    pub problem: Problem,
    /// What it is, in words.
    pub detail: String,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The system could not read it.
    Unreadable,
    /// It is no picture of a known format.
    NotAnImage,
    /// It is damaged or cut short.
    Damaged,
    /// It has too many pixels.
    TooLarge,
    /// The name's ending is another format's; it is decoded all the same.
    LyingExtension,
    /// The same bytes as another file of its part.
    Duplicate,
    /// The same bytes as a file of its part with another class.
    ContradictoryDuplicate,
    /// Nearly the same picture as another one of its part.
    NearDuplicate,
    /// The same bytes as a training picture, in another part.
    Leak,
    /// Nearly the same picture as a training picture, in another part.
    NearLeak,
    /// A class of the training part without a picture in another part.
    MissingClass,
    /// A class that the training part does not have.
    UnknownClass,
    /// Every picture of a class is broken.
    NoReadable,
    /// The largest class has many times the pictures of the smallest.
    Imbalance,
    /// A picture that no part uses: it has no class, or no picture's name.
    Unused,
}

impl Problem {
    /// Its name in JSON.
    pub fn name(self) -> String {
        let value = serde_json::to_value(self).expect("a word always serialises");
        value.as_str().unwrap_or_default().to_string()
    }
}

/// The numbers under the findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Files that were decoded or should have been.
    pub files: usize,
    /// Those that can be used.
    pub ok: usize,
    /// Those that cannot.
    pub bad: usize,
    /// Files with the same bytes as an earlier one of their part.
    pub duplicates: usize,
    /// Files of other parts with the same bytes as a training picture.
    pub leaks: usize,
    /// Pictures nearly equal to an earlier one of their part.
    pub near_duplicates: usize,
    /// Pictures of other parts nearly equal to a training picture.
    pub near_leaks: usize,
    /// Names that lie about the format.
    pub lying_extensions: usize,
    /// Classes that a part lacks, or that only another part has, or without a readable picture.
    pub class_problems: usize,
    /// Files that were never meant to be pictures.
    pub stray: usize,
}

/// How many times as many pictures the largest class may have as the smallest.
const BALANCED: usize = 10;

impl Survey {
    /// All that is wrong, files in their order, then classes; and the numbers.
    pub fn findings(&self) -> (Vec<Finding>, Summary) {
        let mut findings = Vec::new();
        self.bad_files(&mut findings);
        self.twins(&mut findings);
        self.classes(&mut findings);
        let count = |problem| findings.iter().filter(|f: &&Finding| f.problem == problem).count();
        let (mut ok, mut bad, mut stray) = (0, 0, 0);
        for picture in &self.pictures {
            match picture.measured {
                Measured::Good(_) => ok += 1,
                Measured::Bad(..) => bad += 1,
                Measured::Stray => stray += 1,
            }
        }
        let summary = Summary {
            files: ok + bad,
            ok,
            bad,
            duplicates: count(Problem::Duplicate) + count(Problem::ContradictoryDuplicate),
            leaks: count(Problem::Leak),
            near_duplicates: count(Problem::NearDuplicate),
            near_leaks: count(Problem::NearLeak),
            lying_extensions: count(Problem::LyingExtension),
            class_problems: count(Problem::MissingClass)
                + count(Problem::UnknownClass)
                + count(Problem::NoReadable),
            stray,
        };
        (findings, summary)
    }

    fn bad_files(&self, findings: &mut Vec<Finding>) {
        for picture in &self.pictures {
            let (problem, detail) = match &picture.measured {
                Measured::Bad(kind, error) => {
                    // The error begins with the name and mostly the kind, which stand beside it here.
                    let mut detail = error.strip_prefix(&picture.path).unwrap_or(error);
                    for begin in [": ", "not an image: ", "cannot be decoded: "] {
                        detail = detail.strip_prefix(begin).unwrap_or(detail);
                    }
                    (problem(*kind), detail.to_string())
                }
                Measured::Good(good) => match good.lie {
                    Some((named, found)) => {
                        (Problem::LyingExtension, format!("named {named}, but it is {found}"))
                    }
                    None if picture.part == Part::Unused => {
                        let detail = "in no class's folder, or not named as a picture";
                        (Problem::Unused, detail.to_string())
                    }
                    None => continue,
                },
                Measured::Stray => continue,
            };
            findings.push(Finding { path: picture.path.clone(), problem, detail });
        }
    }

    fn good(&self) -> Vec<(usize, &Good)> {
        let all = self.pictures.iter().enumerate();
        let good = all.filter_map(|(index, picture)| match &picture.measured {
            Measured::Good(good) => Some((index, good.as_ref())),
            Measured::Bad(..) | Measured::Stray => None,
        });
        good.collect()
    }

    fn twins(&self, findings: &mut Vec<Finding>) {
        let good = self.good();
        let mut parts: Vec<Part> = self.pictures.iter().map(|picture| picture.part).collect();
        parts.dedup();
        let of = |wanted: &[Part]| -> Vec<(usize, &Good)> {
            let wanted = |entry: &&(usize, &Good)| wanted.contains(&self.pictures[entry.0].part);
            good.iter().filter(wanted).copied().collect()
        };
        for &part in &parts {
            let own = of(&[part]);
            let mut equal: Vec<_> = twins::equal(&own).into_iter().collect();
            equal.sort_unstable();
            findings.extend(equal.iter().map(|&(later, first)| self.duplicate(first, later)));
            let near = |(first, later)| self.pair(Problem::NearDuplicate, first, later);
            // A second copy of a picture is like its first copy's likes: told once is enough.
            let copies: HashSet<usize> = equal.iter().map(|&(later, _)| later).collect();
            let fresh: Vec<_> = own.into_iter().filter(|(i, _)| !copies.contains(i)).collect();
            findings.extend(twins::near(&fresh).into_iter().map(near));
        }
        for &part in parts.iter().filter(|&&part| part == Part::Val || part == Part::Test) {
            let both = of(&[Part::Train, part]);
            let is_leak = |&(first, later): &(usize, usize)| {
                (self.pictures[first].part, self.pictures[later].part) == (Part::Train, part)
            };
            let mut equal: Vec<_> =
                twins::equal(&both).into_iter().map(|(later, first)| (first, later)).collect();
            equal.sort_unstable_by_key(|&(_, later)| later);
            let told: HashSet<usize> =
                equal.iter().filter(|pair| is_leak(pair)).map(|&(_, later)| later).collect();
            let pair = |problem| move |(first, later)| self.pair(problem, first, later);
            findings.extend(equal.into_iter().filter(is_leak).map(pair(Problem::Leak)));
            let near = twins::near(&both).into_iter().filter(is_leak);
            let near = near.filter(|(_, later)| !told.contains(later));
            findings.extend(near.map(pair(Problem::NearLeak)));
        }
    }

    fn duplicate(&self, first: usize, later: usize) -> Finding {
        let (a, b) = (&self.pictures[first], &self.pictures[later]);
        if a.labels == b.labels {
            return self.pair(Problem::Duplicate, first, later);
        }
        let detail = format!("the same bytes as {}, which has another class", a.path);
        Finding { path: b.path.clone(), problem: Problem::ContradictoryDuplicate, detail }
    }

    fn pair(&self, problem: Problem, first: usize, later: usize) -> Finding {
        let how = match problem {
            Problem::NearDuplicate | Problem::NearLeak => "nearly the same picture as",
            _ => "the same bytes as",
        };
        let detail = format!("{how} {}", self.pictures[first].path);
        Finding { path: self.pictures[later].path.clone(), problem, detail }
    }

    fn classes(&self, findings: &mut Vec<Finding>) {
        let mut told = |path: &str, problem, detail| {
            findings.push(Finding { path: path.to_string(), problem, detail });
        };
        let training = self.classes.iter().find(|(part, _)| *part == Part::Train);
        for (part, classes) in &self.classes {
            let counts = self.counts(*part, classes.len());
            for (class, count) in classes.iter().zip(&counts) {
                if 0 < count.files && count.good == 0 {
                    let detail = format!("class {class:?}: none of its {} files", count.files);
                    told(part.name(), Problem::NoReadable, format!("{detail} can be read"));
                }
            }
            if let Some((_, known)) = training.filter(|_| *part != Part::Train) {
                for class in classes.iter().filter(|class| !known.contains(class)) {
                    let detail = format!("class {class:?} is not in the training part");
                    told(part.name(), Problem::UnknownClass, detail);
                }
                for class in known {
                    let there = classes.iter().position(|other| other == class);
                    if there.is_none_or(|label| counts[label].files == 0) {
                        let detail = format!("class {class:?} of the training part is not here");
                        told(part.name(), Problem::MissingClass, detail);
                    }
                }
            }
            let sizes = || classes.iter().zip(&counts).filter(|(_, count)| 0 < count.good);
            let smallest = sizes().min_by_key(|(_, count)| count.good);
            let largest = sizes().max_by_key(|(_, count)| count.good);
            if let (Some((small, few)), Some((large, many))) = (smallest, largest)
                && BALANCED * few.good < many.good
            {
                let detail = format!(
                    "class {large:?} has {} pictures, class {small:?} {}",
                    many.good, few.good
                );
                told(part.name(), Problem::Imbalance, detail);
            }
        }
    }

    /// How many files and good pictures each class of a part has.
    pub fn counts(&self, part: Part, classes: usize) -> Vec<ClassCount> {
        let mut counts = vec![ClassCount::default(); classes];
        for picture in self.pictures.iter().filter(|picture| picture.part == part) {
            for &label in &picture.labels {
                let count = &mut counts[label as usize];
                count.files += 1;
                count.good += usize::from(matches!(picture.measured, Measured::Good(_)));
            }
        }
        counts
    }
}

/// The pictures of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCount {
    /// Files that should be pictures.
    pub files: usize,
    /// Those that can be used.
    pub good: usize,
}

fn problem(kind: BadKind) -> Problem {
    match kind {
        BadKind::Unreadable => Problem::Unreadable,
        BadKind::NotAnImage => Problem::NotAnImage,
        BadKind::Damaged => Problem::Damaged,
        BadKind::TooLarge => Problem::TooLarge,
    }
}
