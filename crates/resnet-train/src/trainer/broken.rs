//! Broken pictures are met again in every epoch, and named once.

use std::collections::HashSet;

use resnet_io::loader::Broken;

use super::report::Reporter;
use crate::error::TrainError;
use crate::event::Event;

/// What a picture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Train,
    Val,
}

/// The broken pictures that this process has named.
#[derive(Default)]
pub(super) struct Told(HashSet<(Part, u32)>);

impl Told {
    /// Names those that have not been named yet.
    pub(super) fn tell(
        &mut self,
        report: &mut Reporter<'_>,
        part: Part,
        broken: &[Broken],
    ) -> Result<(), TrainError> {
        let what = match part {
            Part::Train => "another takes its place",
            Part::Val => "left out",
        };
        for Broken { sample, problem } in broken {
            if self.0.insert((part, *sample)) {
                report.note(Event::Notice(format!("{problem}; {what}")))?;
            }
        }
        Ok(())
    }
}
