//! `ringpost run`: from a command line to a server that serves, and to its end.

use super::cli::RunFlags;
use super::data_dir::DataDir;
use super::sources::When;
use super::{Exit, GIT, VERSION, exit, print, process, sources};
use crate::config::{Checked, Overrides};
use crate::control::{Control, ControlError, Fallen, Plan, Serving, log};
use crate::io::launch::{LaunchError, ShardError};
use crate::io::probe::Probe;
use crate::settings::{Durability, Role, Settings};
use crate::shell::server::{StartError, read_left, start};
use std::sync::Arc;
use std::time::Duration;

/// How long the log may take for its last lines.
const LOG_WAIT: Duration = Duration::from_secs(1);

/// Why a server does not run, or did not end well.
struct Stop {
    exit: Exit,
    line: String,
}

impl Stop {
    fn usage(line: String) -> Stop {
        Stop { exit: Exit::Usage, line }
    }
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Stop {
        let exit = if error.is_usage() { Exit::Usage } else { Exit::Component };
        let line = match &error {
            StartError::Launch(LaunchError::Refused { .. }) => format!("server.driver: {error}"),
            _ => error.to_string(),
        };
        Stop { exit, line }
    }
}

impl From<ControlError> for Stop {
    fn from(error: ControlError) -> Stop {
        let exit = match error {
            ControlError::Usage(_) => Exit::Usage,
            _ => Exit::Component,
        };
        Stop { exit, line: error.to_string() }
    }
}

pub(super) fn run(flags: &RunFlags) -> Exit {
    match serve(flags) {
        Ok(()) => Exit::Good,
        Err(Stop { exit, line }) => exit::fail(exit, &line),
    }
}

fn serve(flags: &RunFlags) -> Result<(), Stop> {
    let overrides = flags.overrides();
    let mut checked = sources::settings(flags.config.as_deref(), When::First, &overrides).map_err(Stop::usage)?;
    let places = std::mem::take(&mut checked.places);
    // What the start finds out has its place in the file, or its flag, like what was found in the text.
    serve_as(checked, overrides, flags).map_err(|stop| Stop { line: places.locate(stop.line), ..stop })
}

fn serve_as(checked: Checked, overrides: Overrides, flags: &RunFlags) -> Result<(), Stop> {
    let instance = instance();
    let settings = Arc::new(named(checked.settings, &instance));
    process::harden().map_err(|error| Stop {
        exit: Exit::Component,
        line: format!("the process cannot be made safe: {error}; see what limits it"),
    })?;
    process::become_nobody_important(&settings, flags.allow_root).map_err(Stop::usage)?;
    let folder = settings.server.data_dir.as_deref().map(|path| DataDir::take(path, flags.config.is_none()));
    let folder = folder.transpose().map_err(Stop::usage)?;
    let forgets = settings.plays(Role::Hub) && settings.server.durability == Durability::None;
    let forgot = folder.as_ref().map(|folder| folder.mark(forgets)).transpose().map_err(Stop::usage)?;
    let lines = log::start(&settings.log);
    if forgot == Some(true) {
        tracing::warn!(cause = "spool", "unclean stop, mode none: what was in memory is lost");
    }
    for warning in &checked.warnings {
        tracing::warn!(cause = "configuration", "{warning}");
    }
    let config = flags.config.clone();
    let reload = move || match &config {
        Some(path) => {
            let again = sources::settings(Some(path), When::Again, &overrides);
            again.map(|checked| named(checked.settings, &instance))
        }
        None => Err("there is no file to reload; start with --config FILE".to_owned()),
    };
    let ended = control(settings, Box::new(reload));
    // Who was refused took nothing: nobody is let in before every shard can serve.
    if let (Some(folder), Ok(()) | Err(Stop { exit: Exit::Usage, .. })) = (&folder, &ended) {
        folder.ended_well();
    }
    lines.flush(LOG_WAIT);
    ended
}

fn named(mut settings: Settings, instance: &str) -> Settings {
    settings.server.instance = instance.to_owned();
    settings
}

/// What tells this process from every other.
fn instance() -> String {
    let mut drawn = [0; 8];
    crate::io::random(&mut drawn);
    format!("{:016x}", u64::from_ne_bytes(drawn))
}

type Reload = Box<dyn FnMut() -> Result<Settings, String> + Send>;

fn control(settings: Arc<Settings>, reload: Reload) -> Result<(), Stop> {
    let plan = Plan { settings: settings.clone(), reload, version: VERSION, git: GIT };
    tracing::info!(cause = "driver", "{}", Probe::new(settings.server.data_dir.as_deref()));
    let (mut control, links) = Control::prepare(plan)?;
    let routes = control.routes();
    let of = settings.clone();
    let started = control.unless_ended(move || read_left(&of)).map_err(Stop::from).and_then(|left| {
        let start = |left| Ok(start(&settings, links, routes, left?)?);
        left.map(start).transpose()
    });
    let running = match started {
        Ok(Some(running)) => running,
        ended => {
            control.abandon();
            return ended.map(|_| tracing::info!("told to end while the spool was read"));
        }
    };
    if let Some(why) = &running.passed_over {
        tracing::warn!(cause = "driver", driver = running.driver, "{why}");
    }
    let driver = running.driver;
    let join = move || running.join().map_err(|ShardError { shard, error }| Fallen { shard, error });
    control.run(driver, join, ready)?;
    Ok(())
}

/// The first line on standard output.
fn ready(serving: &Serving) {
    let text = serde_json::to_string(serving).unwrap_or_default();
    // Nobody reading is no reason not to serve.
    let _unread = print(format!("ready {text}\n").as_bytes());
}
