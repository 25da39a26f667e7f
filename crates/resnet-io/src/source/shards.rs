//! Patterns for shards: `train-{0000..0146}.tar` names 147 files.

/// The most files that a pattern may name.
const MAX_FILES: u64 = 1_000_000;

/// The addresses that a pattern names, in order; none if it is no pattern.
///
/// `{0000..0146}` counts, with as many digits as its first number has; `{a,b}` lists. Several braces
/// make all combinations, the last one running fastest, as in a shell.
pub(super) fn expand(pattern: &str) -> Option<Vec<String>> {
    let (before, rest) = pattern.split_once('{')?;
    let (inside, after) = rest.split_once('}')?;
    let choices = choices(inside)?;
    let tails = expand(after).unwrap_or_else(|| vec![after.to_string()]);
    if MAX_FILES < choices.len() as u64 * tails.len() as u64 {
        return None;
    }
    let with = |choice: &String| {
        tails.iter().map(|tail| format!("{before}{choice}{tail}")).collect::<Vec<_>>()
    };
    Some(choices.iter().flat_map(with).collect())
}

fn choices(inside: &str) -> Option<Vec<String>> {
    if let Some((first, last)) = inside.split_once("..") {
        let digits = first.len();
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || MAX_FILES <= last - first {
            return None;
        }
        return Some((first..=last).map(|n| format!("{n:0digits$}")).collect());
    }
    inside.contains(',').then(|| inside.split(',').map(str::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: &[&str]) {
        assert_eq!(expand(pattern).unwrap_or_default(), expected);
    }

    #[test]
    fn ranges_keep_their_digits_and_lists_their_order() {
        check("a-{008..011}.tar", &["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]);
        check("{b,a}/{0..1}", &["b/0", "b/1", "a/0", "a/1"]);
    }

    #[test]
    fn what_is_no_pattern_is_left_alone() {
        check("a.tar", &[]);
        check("a{b}.tar", &[]);
        check("a{3..1}.tar", &[]);
        check("a{0..99999999}.tar", &[]);
        check("a{0..x}.tar", &[]);
    }
}
