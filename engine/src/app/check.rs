//! `ringpost check`: everything that is wrong with a configuration; nothing is changed.

use super::cli::CheckFlags;
use super::sources::When;
use super::{Exit, exit, print, sources};
use crate::config::{self, File, Origin, Overrides, Problem, Weight};
use crate::settings::Profile;
use serde::Serialize;
use std::io::Write;

/// The result for machines.
#[derive(Serialize)]
struct Report {
    file: String,
    good: bool,
    problems: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    weight: &'static str,
    line: Option<usize>,
    column: Option<usize>,
    key: String,
    wrong: String,
    right: String,
}

pub(super) fn check(flags: &CheckFlags) -> Exit {
    if flags.print_defaults {
        let profile = flags.profile.parse().unwrap_or(Profile::Exchange);
        return print(config::defaults(profile).as_bytes());
    }
    // The command line asks for one of both.
    let Some(path) = &flags.config else { return exit::fail(Exit::Usage, "check: say --config FILE") };
    let name = path.display().to_string();
    let octets = sources::read_file(path, When::First);
    let read = match &octets {
        Ok(octets) => config::read(Some(File { name: &name, octets }), &Overrides::default(), &sources::machine()),
        Err(unreadable) => Err(vec![unreadable.clone()]),
    };
    let (good, problems) = match read {
        Ok(checked) => (true, checked.warnings),
        Err(problems) => (false, problems),
    };
    if flags.json {
        let report = Report { file: name, good, problems: problems.iter().map(row).collect() };
        let text = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
        let printed = print(text.as_bytes());
        return if good { printed } else { Exit::Usage };
    }
    tell(&problems, &String::from_utf8_lossy(&octets.unwrap_or_default()));
    if good { print(format!("{name}: good\n").as_bytes()) } else { Exit::Usage }
}

/// Each problem as one line, with a picture of the place under it.
fn tell(problems: &[Problem], text: &str) {
    let mut err = std::io::stderr().lock();
    for problem in problems {
        // With standard error gone there is nobody to tell.
        let _gone = writeln!(err, "{problem}");
        if let Origin::File { line, column, .. } = problem.origin
            && let Some(picture) = config::picture(text, line, column)
        {
            let shown: String = picture.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
            let _gone = writeln!(err, "{shown}");
        }
    }
}

fn row(problem: &Problem) -> Row {
    let (line, column) = match problem.origin {
        Origin::File { line, column, .. } => (Some(line), Some(column)),
        Origin::Flag(_) => (None, None),
    };
    Row {
        weight: match problem.weight {
            Weight::Error => "error",
            Weight::Warning => "warning",
        },
        line,
        column,
        key: problem.key.clone(),
        wrong: problem.wrong.clone(),
        right: problem.right.clone(),
    }
}
