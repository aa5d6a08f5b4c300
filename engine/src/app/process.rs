//! The process before it does anything: nobody else reads its files or its memory, and it is nobody important (S-001,
//! S-005, S-007).

use crate::settings::{Server, Settings};
use crate::sys::process::{User, user};
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use std::io;

/// Files that a server may need when nothing says how many it may have.
const FILES_WANTED: u64 = 1 << 20;

/// No core files, no looking into our memory, files for ourselves alone, as many descriptors as we may have.
///
/// # Errors
/// The system refuses.
pub(super) fn harden() -> io::Result<()> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let files = rustix::process::getrlimit(Resource::Nofile);
    let most = files.maximum.unwrap_or(FILES_WANTED);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: files.maximum })?;
    Ok(())
}

/// Becomes the user of the settings when started as root.
///
/// # Errors
/// One line: root without a user to become and without `--allow-root`, no such user, or the system refuses.
pub(super) fn become_nobody_important(settings: &Settings, allow_root: bool) -> Result<(), String> {
    let Server { user: name, .. } = &settings.server;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some(name) = name else {
        let wrong = "server.user: started as root, with no user to become";
        return if allow_root {
            Ok(())
        } else {
            Err(format!(
                "{wrong}; write user = \"ringpost\" in [server], start it as an ordinary user, or say --allow-root"
            ))
        };
    };
    let found =
        user(name).map_err(|error| format!("server.user: users cannot be looked up: {error}; mend that first"))?;
    let Some(found) = found else {
        return Err(format!(
            "server.user: there is no user \"{name}\" on this system; make it: useradd --system {name}"
        ));
    };
    let low = settings.listeners.iter().any(|listener| (1..1_024).contains(&listener.address.port()));
    change_to(&found, low).map_err(|error| format!("server.user: cannot become {name}: {error}; start it as that user"))
}

/// Gives up being root, for good; keeps the right to low ports where a listener has one.
fn change_to(user: &User, low_ports: bool) -> io::Result<()> {
    if user.uid == 0 {
        return Err(io::Error::other("it is root too"));
    }
    // The identity is a thread's: it must be changed before there are others.
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("threads run already"));
    }
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_keep_capabilities(low_ports)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    if low_ports {
        let kept = CapabilitySet::NET_BIND_SERVICE;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)?;
        rustix::thread::set_keep_capabilities(false)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    if rustix::thread::set_thread_uid(Uid::ROOT).is_ok() {
        return Err(io::Error::other("the way back to root is open"));
    }
    // Changing the user has made the process dumpable again.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
