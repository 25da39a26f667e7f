//! Splits Rust text into lines of code and comment, so that rules are not misled by either.
//!
//! A few states are enough: rules look for words, not for syntax. Contents of strings and
//! characters are dropped from the code, their quotes are kept.

/// One line of a Rust file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Without comments, and with nothing between quotes.
    pub(super) code: String,
    /// The text of its comments, with their slashes.
    pub(super) comment: String,
}

enum State {
    Code,
    LineComment,
    /// How deep `/*` is nested.
    BlockComment(usize),
    String,
    /// How many `#` close it.
    RawString(usize),
}

/// Splits `text` into its lines.
pub(super) fn split(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while at < chars.len() {
        let line = lines.last_mut().expect("it starts with one line and only grows");
        let (c, rest) = (chars[at], &chars[at..]);
        if c == '\n' {
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let (next, length) = match state {
            State::Code => step_code(rest, &chars[..at], line),
            State::LineComment => {
                line.comment.push(c);
                (State::LineComment, 1)
            }
            State::BlockComment(depth) => step_block_comment(rest, depth, line),
            State::String => match rest {
                // The newline of a line continuation must still be seen as one.
                ['\\', '\n', ..] => (State::String, 1),
                ['\\', ..] => (State::String, 2),
                ['"', ..] => {
                    line.code.push('"');
                    (State::Code, 1)
                }
                _ => (State::String, 1),
            },
            State::RawString(hashes) => {
                let closes =
                    c == '"' && rest[1..].iter().take_while(|&&c| c == '#').count() >= hashes;
                if closes {
                    line.code.push('"');
                    (State::Code, 1 + hashes)
                } else {
                    (State::RawString(hashes), 1)
                }
            }
        };
        state = next;
        at += length;
    }
    lines
}

/// Takes one step in code: the next state, and how many characters it took.
fn step_code(rest: &[char], before: &[char], line: &mut Line) -> (State, usize) {
    if let Some(hashes) = raw_string_start(rest, before) {
        line.code.push_str("r\"");
        return (State::RawString(hashes), hashes + 2);
    }
    match rest {
        ['/', '/', ..] => (State::LineComment, 0),
        ['/', '*', ..] => {
            line.comment.push_str("/*");
            (State::BlockComment(1), 2)
        }
        ['"', ..] => {
            line.code.push('"');
            (State::String, 1)
        }
        ['\'', '\\', ..] => {
            line.code.push_str("' '");
            let close = rest.iter().skip(3).position(|&c| c == '\'');
            (State::Code, close.map_or(rest.len(), |index| index + 4))
        }
        ['\'', _, '\'', ..] => {
            line.code.push_str("' '");
            (State::Code, 3)
        }
        [c, ..] => {
            line.code.push(*c);
            (State::Code, 1)
        }
        [] => (State::Code, 1),
    }
}

fn step_block_comment(rest: &[char], depth: usize, line: &mut Line) -> (State, usize) {
    match rest {
        ['*', '/', ..] => {
            line.comment.push_str("*/");
            (if depth == 1 { State::Code } else { State::BlockComment(depth - 1) }, 2)
        }
        ['/', '*', ..] => {
            line.comment.push_str("/*");
            (State::BlockComment(depth + 1), 2)
        }
        [c, ..] => {
            line.comment.push(*c);
            (State::BlockComment(depth), 1)
        }
        [] => (State::BlockComment(depth), 1),
    }
}

/// The number of `#` of a raw string that begins here: `r"`, `r#"`, …; not the end of a name.
fn raw_string_start(rest: &[char], before: &[char]) -> Option<usize> {
    let (&'r', tail) = rest.split_first()? else { return None };
    let after_name = match before {
        [.., c, 'b'] => c.is_alphanumeric() || *c == '_',
        [.., c] => c.is_alphanumeric() || *c == '_',
        [] => false,
    };
    let hashes = tail.iter().take_while(|&&c| c == '#').count();
    (!after_name && tail.get(hashes) == Some(&'"')).then_some(hashes)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[track_caller]
    fn check(text: &str, code: &[&str], comments: &[&str]) {
        let lines = split(text);
        assert_eq!(lines.iter().map(|line| line.code.as_str()).collect::<Vec<_>>(), code);
        assert_eq!(lines.iter().map(|line| line.comment.as_str()).collect::<Vec<_>>(), comments);
    }

    #[test]
    fn comments_are_apart_from_code() {
        check("a // b\nc", &["a ", "c"], &["// b", ""]);
        check("a /* b\n/* c */ d */ e", &["a ", " e"], &["/* b", "/* c */ d */"]);
    }

    #[test]
    fn strings_are_emptied() {
        check("f(\"// \\\" no\") // yes", &["f(\"\") "], &["// yes"]);
        check("r#\"a \" // b\"# + c", &["r\"\" + c"], &[""]);
        check("\"two \\\n lines\" x", &["\"", "\" x"], &["", ""]);
    }

    #[test]
    fn characters_are_not_lifetimes() {
        check("'\"' + '\\'' + &'a str", &["' ' + ' ' + &'a str"], &[""]);
    }
}
