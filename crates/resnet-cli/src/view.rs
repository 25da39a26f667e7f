//! How results and progress look: for people on a terminal, as plain lines, or as JSON.

pub(crate) mod table;
pub(crate) mod training;

use std::io::Write;

use crate::arguments::Talk;

/// How this process talks.
#[derive(Clone, Debug)]
pub(crate) struct View {
    json: bool,
    quiet: bool,
}

impl View {
    /// As the flags say.
    pub(crate) fn new(talk: &Talk) -> View {
        View { json: talk.json, quiet: talk.quiet }
    }

    /// Whether results are JSON, one object a line.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether only results and errors are wanted.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// Where results go, with colours if it is a terminal that shows them.
    pub(crate) fn stdout(&self) -> impl Write + use<> {
        anstream::stdout().lock()
    }

    /// Tells the user something that is not a result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let dim = anstyle::Style::new().dimmed();
            // With stderr closed nobody wants to know.
            let _ = writeln!(anstream::stderr(), "{dim}{text}{dim:#}");
        }
    }
}

/// 1234567 as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with three digits and a unit: `3.06 MB`. Units are powers of 1000.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while 999.5 <= value && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || 99.95 <= value {
        0
    } else if 9.995 <= value {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", units[unit])
}
