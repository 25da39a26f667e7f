//! Panels that a tile multiplies two at a time: the same for floats and for bytes.

use std::ops::Range;

use crate::threads::part;

/// Some panels in order, in ranges of one, or of `most` where such go together.
pub(super) fn together(
    mut panels: Range<usize>,
    most: usize,
    go_together: impl Fn(&Range<usize>) -> bool,
) -> impl Iterator<Item = Range<usize>> {
    std::iter::from_fn(move || {
        let (one, all) = (panels.start..panels.start + 1, panels.start..panels.start + most);
        let now = if all.end <= panels.end && go_together(&all) { all } else { one };
        panels.start = now.end;
        (now.end <= panels.end).then_some(now)
    })
}

/// The panels of one of so many parts, none of which parts those that may go together.
pub(super) fn share(index: usize, parts: usize, panels: usize, most: usize) -> Range<usize> {
    let shares = part(index, parts, panels.div_ceil(most));
    shares.start * most..(shares.end * most).min(panels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_panels_come_once_and_in_order() {
        let even = |panels: &Range<usize>| panels.start.is_multiple_of(2);
        let ranges: Vec<_> = together(1..6, 2, even).collect();
        assert_eq!(ranges, [1..2, 2..4, 4..6]);
        assert_eq!(together(3..3, 2, even).count(), 0);
        for parts in 1..=4 {
            let panels: Vec<_> = (0..parts).flat_map(|index| share(index, parts, 7, 2)).collect();
            assert_eq!(panels, (0..7).collect::<Vec<_>>());
        }
    }
}
