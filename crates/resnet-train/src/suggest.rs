//! "Did you mean": the known word most like a misspelt one.

/// What a parser's message about an unknown field or word suggests, as `; did you mean \`x\`?`; nothing
/// where none of the words that it expects is like the one it found.
///
/// The message is serde's: ``unknown field `a`, expected one of `b`, `c` ``.
pub(crate) fn in_message(message: &str) -> String {
    // Half of the letters in place: less is another word.
    const LEAST: f64 = 0.5;
    if !message.starts_with("unknown ") {
        return String::new();
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let Some(found) = words.next() else { return String::new() };
    let scored = words.map(|word| (strsim::normalized_damerau_levenshtein(found, word), word));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, word)) if LEAST <= score => format!("; did you mean `{word}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::in_message;

    #[test]
    fn the_most_similar_expected_word_is_suggested() {
        let message = "unknown field `colour`, expected one of `kind`, `color`, `size`";
        assert_eq!(in_message(message), "; did you mean `color`?");
        assert_eq!(in_message("unknown variant `a`, expected `kind` or `size`"), "");
        assert_eq!(in_message("invalid type: string \"`a`\", expected `a`"), "");
        assert_eq!(in_message("unknown field"), "");
    }
}
