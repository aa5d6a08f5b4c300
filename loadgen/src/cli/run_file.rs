//! The `run.toml` of a result folder: every option of `ringload send` by its long name, with what one would type for it.
//! `--run FILE` reads it back; what is said beside it, on the command line or in the environment, comes before it.

use super::Failure;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;
use toml::Value;
use toml::de::{DeTable, DeValue};

/// How a run is asked for and shown, not what it does.
const NOT_THE_RUN: [&str; 3] = ["run", "out", "json"];
/// What is wanted of a value.
const VALUES: &str = "write it as on the command line: text, a number, true or false, or a list of text";

/// `said` as the text of a file, `head` in front as comments. Defaults are in it: another version may have others.
pub(super) fn text(said: &ArgMatches, head: &[String]) -> String {
    let mut text = String::from(
        "# `ringload send --run run.toml` does it again; options beside it come before what stands here.\n",
    );
    // Writing to a String cannot fail.
    let _ = head.iter().try_for_each(|line| writeln!(text, "# {line}"));
    let command = &send();
    for (key, option) in options(command) {
        let is_default = is_default(said, option) && !is_displaced(command, option, said);
        if is_said(said, option) || is_default {
            let _ = writeln!(text, "{key} = {}", value(said, option));
        }
    }
    text
}

/// What `said` and the file at `path` come to.
///
/// # Errors
/// The file cannot be read, or is none: which line, what is wrong, what would be right. What is wrong with the command line
/// ends the process, as clap does it.
pub(super) fn read(path: &Path, said: &ArgMatches) -> Result<ArgMatches, Failure> {
    let command = &send();
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("{name}: {error}; name the run.toml of a result folder")))?;
    let file = File { name, text };
    let table = DeTable::parse(&file.text)
        .map_err(|error| file.wrong(error.span().map_or(0, |span| span.start), &error.message().replace('\n', " ")))?;
    let mut words = Vec::new();
    for (key, value) in table.get_ref() {
        let option = options(command).find(|(name, _)| *name == key.get_ref()).map(|(_, option)| option);
        let Some(option) = option else {
            let known: Vec<&str> = options(command).map(|(name, _)| name).collect();
            let wrong = format!("{}: no option of a run; write one of {}", key.get_ref(), known.join(", "));
            return Err(file.wrong(key.span().start, &wrong));
        };
        if !is_said(said, option) && !is_displaced(command, option, said) {
            let typed = typed(option, key.get_ref(), value.get_ref());
            words.extend(typed.ok_or_else(|| file.wrong(value.span().start, &format!("{}: {VALUES}", key.get_ref())))?);
        }
    }
    let beside = command.get_arguments().filter(|option| option.get_id() != "run" && is_said(said, option));
    words.extend(beside.flat_map(|option| again(said, option)));
    // What was said of the file is done with.
    let command = command.clone().no_binary_name(true).mut_arg("run", |run| run.env(clap::builder::Resettable::Reset));
    command.try_get_matches_from(words).map_err(|error| file.refused(&error, table.get_ref()))
}

/// `ringload send`, not yet built: a built command cannot be changed any more.
fn send() -> Command {
    let send = super::command().find_subcommand("send").expect("it is there").clone();
    send.bin_name("ringload send")
}

/// The options that make a run, by their long names.
fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let named = command.get_arguments().filter_map(|option| Some((option.get_long()?, option)));
    named.filter(|(name, _)| !NOT_THE_RUN.contains(name))
}

/// Whether somebody said it, on the command line or in the environment.
fn is_said(said: &ArgMatches, option: &Arg) -> bool {
    let source = said.value_source(option.get_id().as_str());
    matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

fn is_default(said: &ArgMatches, option: &Arg) -> bool {
    said.value_source(option.get_id().as_str()) == Some(ValueSource::DefaultValue)
}

/// Whether something was said that cannot stand beside it.
fn is_displaced(command: &Command, option: &Arg, said: &ArgMatches) -> bool {
    let conflicts = |one: &Arg, other: &Arg| command.get_arg_conflicts_with(one).contains(&other);
    let others = options(command).filter(|(_, other)| is_said(said, other));
    others.into_iter().any(|(_, other)| conflicts(option, other) || conflicts(other, option))
}

fn is_switch(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

/// What was said for `option`, as TOML.
fn value(said: &ArgMatches, option: &Arg) -> Value {
    let id = option.get_id().as_str();
    if is_switch(option) {
        return Value::Boolean(said.get_flag(id));
    }
    let raw = said.get_raw(id).into_iter().flatten();
    let mut values = raw.map(|raw| Value::String(elsewhere(id, &raw.to_string_lossy())));
    match option.get_action() {
        ArgAction::Append => Value::Array(values.collect()),
        _ => {
            let text = values.next().unwrap_or_else(|| Value::String(String::new()));
            text.as_str().and_then(|text| text.parse().ok()).map_or(text, Value::Integer)
        }
    }
}

/// `text` so that it means the same to a process in another folder.
fn elsewhere(id: &str, text: &str) -> String {
    let absolute = |path: &str| std::path::absolute(path).map_or(path.to_owned(), |path| path.display().to_string());
    match (id, text.strip_prefix("unix:")) {
        ("corpus" | "sink_ledger", _) => absolute(text),
        ("sink_admin", Some(path)) => format!("unix:{}", absolute(path)),
        _ => text.to_owned(),
    }
}

/// What one would type for `option` to say again what was said.
fn again(said: &ArgMatches, option: &Arg) -> Vec<OsString> {
    let (id, name) = (option.get_id().as_str(), option.get_long().unwrap_or_default());
    if is_switch(option) {
        return said.get_flag(id).then(|| format!("--{name}").into()).into_iter().collect();
    }
    let word = |raw: &std::ffi::OsStr| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(raw);
        word
    };
    said.get_raw(id).into_iter().flatten().map(word).collect()
}

/// What one would type for `option` to say what the file says; `None` when that is no value for it.
fn typed(option: &Arg, name: &str, value: &DeValue<'_>) -> Option<Vec<OsString>> {
    if is_switch(option) {
        return value.as_bool().map(|on| on.then(|| format!("--{name}").into()).into_iter().collect());
    }
    let word = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(format!("--{name}={text}").into()),
        DeValue::Integer(number) => Some(format!("--{name}={number}").into()),
        DeValue::Float(number) => Some(format!("--{name}={number}").into()),
        _ => None,
    };
    match value {
        DeValue::Array(values) => values.iter().map(|value| word(value.get_ref())).collect(),
        value => Some(vec![word(value)?]),
    }
}

struct File {
    name: String,
    text: String,
}

impl File {
    fn wrong(&self, at: usize, wrong: &str) -> Failure {
        let before = self.text.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        Failure::Usage(format!("{}:{line}:{column}: {wrong}", self.name))
    }

    /// A word that was refused: the file's, or else the command line's, which is for clap to tell.
    fn refused(&self, error: &clap::Error, table: &DeTable<'_>) -> Failure {
        let about = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(about)) => about.as_str(),
            Some(ContextValue::Strings(_)) | None => "",
            Some(_) => error.exit(),
        };
        let about = about.trim_start_matches("--").split([' ', '=']).next().unwrap_or_default();
        let at = table.iter().find(|(key, _)| *key.get_ref() == about).map(|(_, value)| value.span().start);
        if at.is_none() && !about.is_empty() {
            error.exit();
        }
        let told = error.to_string();
        let told: Vec<&str> = told.split("\n\n").next().unwrap_or_default().lines().map(str::trim).collect();
        self.wrong(at.unwrap_or(0), told.join(" ").trim_start_matches("error: "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[&str]) -> ArgMatches {
        send().no_binary_name(true).try_get_matches_from(words).expect("well said")
    }

    /// The file that `file` and `words` beside it come to; or what is wrong.
    fn repeated(file: &str, words: &[&str]) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.toml");
        std::fs::write(&path, file).expect("written");
        let read = read(&path, &said(&[words, &["--run", "run.toml"]].concat()));
        let told = |error: Failure| error.to_string().replace(&folder.path().display().to_string(), "");
        read.map(|said| text(&said, &[])).map_err(told)
    }

    #[test]
    fn what_was_written_is_read_as_the_same_run() {
        for words in [
            &["--target", "127.0.0.1:25,[::1]:26", "-r", "1.5k/s", "-d", "250ms", "-w", "1s", "--seed", "7"][..],
            &[
                "--target",
                "mx.test:25",
                "--stage",
                "500/s:10s",
                "--stage=2k/s:5s",
                "--poisson",
                "--size",
                "4k:90,100k:10",
            ],
            &[
                "--target",
                "mx.test:25",
                "--closed",
                "-c",
                "256",
                "--in-flight",
                "64",
                "-n",
                "5000",
                "--to",
                "a@b.test*3,c@d.test",
            ],
            &["--target", "mx.test:25", "--closed", "--corpus", "mail", "--sink-admin", "unix:s.sock", "--shards", "2"],
            &[
                "--target",
                "mx.test:25",
                "-r",
                "5",
                "--max-p99",
                "5ms",
                "--seed",
                "18446744073709551615",
                "--out",
                "x",
                "--json",
            ],
        ] {
            let written = text(&said(words), &["one".into()]);
            let again = repeated(&written, &[]).unwrap_or_else(|error| panic!("{error}\n{written}"));
            assert_eq!(again, written.replace("# one\n", ""));
            assert!(again.contains("target = [\"") && again.contains("drain = \"10s\""), "{again}");
            assert!(!again.contains("out =") && !again.contains("json ="), "{again}");
        }
        let corpus = text(&said(&["--target=a:1", "--closed", "--corpus=mail"]), &[]);
        assert!(corpus.contains("corpus = \"/") && !corpus.contains("size ="), "{corpus}");
    }

    #[test]
    fn options_beside_the_file_come_before_it() {
        let file = "target = [\"a.test:1\"]\nrate = \"5/s\"\nduration = 3\nclosed = true\nsize = \"1k\"\n";
        for (words, there, gone) in [
            (&["-r", "9/s"][..], &["rate = \"9/s\"", "duration = 3\n"][..], "5/s"),
            (&["--stage", "9/s:1s"], &["stage = [\"9/s:1s\"]"], "duration"),
            (&["--corpus", "mail"], &["corpus = ", "closed = true"], "size"),
            (&["--target", "b.test:2"], &["target = [\"b.test:2\"]"], "a.test"),
        ] {
            let text = repeated(file, words).expect("it goes together");
            assert!(there.iter().all(|line| text.contains(line)) && !text.contains(gone), "{words:?}: {text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (file, told) in [
            (
                "target = \"a:1\"\nrate = \"fast\"\n",
                "/run.toml:2:8: invalid value 'fast' for '--rate <RATE>': `fast` is not",
            ),
            ("target = \"a:1\"\nspeed = 5\n", "/run.toml:2:1: speed: no option of a run; write one of target, rate, "),
            ("target = \"a:1\"\n\n rate = {}\n", "/run.toml:3:9: rate: write it as on the command line: "),
            ("target = \"a:1\"\nclosed = \"yes\"\n", "/run.toml:2:10: closed: write it as"),
            ("rate = 5\n", "/run.toml:1:1: the following required arguments were not provided: --target <HOST:PORT>"),
            ("target = \"a:1\"\n", "/run.toml:1:1: the following required arguments were not provided: --rate <RATE>"),
            (
                "target = \"a:1\"\nrate = [5, 6]\n",
                "/run.toml:2:8: the argument '--rate <RATE>' cannot be used multiple times",
            ),
            ("target = \"a:1\"\nrate = 5\nrate = 6\n", "/run.toml:3:1: "),
            ("out = \"x\"\n", "/run.toml:1:1: out: no option of a run"),
        ] {
            let error = repeated(file, &[]).expect_err(told);
            assert!(error.starts_with(told) && !error.contains('\n'), "{error}");
        }
    }
}
