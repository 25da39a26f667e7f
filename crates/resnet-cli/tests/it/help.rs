//! The help texts, as they are.

use crate::session::{COMMANDS, Session};

#[track_caller]
fn check(name: &str, line: &str) {
    insta::assert_snapshot!(name, Session::new().run(line).transcript());
}

#[test]
fn resnet_has_help() {
    check("help", "--help");
}

#[test]
fn every_command_has_help_with_examples() {
    for command in COMMANDS {
        let name = command.replace(' ', "_");
        check(&format!("help_{name}"), &format!("{command} --help"));
    }
}

#[test]
fn the_short_help_fits_a_screen() {
    for command in COMMANDS {
        let answer = Session::new().run(&format!("{command} -h"));
        assert!(answer.stdout.lines().count() <= 90, "{command} -h:\n{}", answer.stdout);
    }
}
