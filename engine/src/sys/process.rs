//! The process, its turns on a processor, and the users of the system: what the standard library and rustix leave to C.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Octets that a line of the user database may take.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Groups that one user may be in.
const GROUPS_MAX: usize = 65_536;

/// The kernel's `struct sched_attr`, as long as every kernel since 3.14 knows it.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

const SCHED_ATTR_BYTES: u32 = 48;
const _: () = assert!(size_of::<SchedAttr>() == SCHED_ATTR_BYTES as usize, "SCHED_ATTR_SIZE_VER0");

/// How this thread is given its processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// Before all ordinary threads, as soon as it wakes (SCHED_RR). Needs CAP_SYS_NICE or RLIMIT_RTPRIO.
    First,
    /// Its share as before, in turns of so many nanoseconds: shorter ones than its neighbours' come sooner. Linux 6.12 and
    /// later; before, it changes nothing.
    Short(u64),
    /// A tenth of what its neighbours get while they want their processor (nice 10), and all of it while they do not.
    Few,
}

/// Asks the scheduler for `turns` for this thread.
///
/// # Errors
/// The system's: not permitted, most of all.
pub fn ask_for(turns: Turns) -> io::Result<()> {
    let mut attr = SchedAttr::default();
    let done = |result: libc::c_long| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: `attr` is writable for the length given, and lives through the call.
    done(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, SCHED_ATTR_BYTES, 0) })?;
    match turns {
        Turns::First => (attr.policy, attr.priority, attr.nice, attr.runtime_ns) = (libc::SCHED_RR as u32, 1, 0, 0),
        Turns::Short(ns) => attr.runtime_ns = ns,
        Turns::Few => attr.nice = 10,
    }
    // SAFETY: `attr` is as long as it says and lives through the call, which only reads it.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
}

/// A user of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// All its groups, the first one included.
    pub groups: Vec<u32>,
}

/// The user called `name`, by the system's databases; `None` when there is none.
///
/// # Errors
/// A database cannot be read, or the name has a NUL.
pub fn user(name: &str) -> io::Result<Option<User>> {
    let name = CString::new(name)?;
    let mut room: Vec<libc::c_char> = vec![0; 1_024];
    let (uid, gid) = loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found: *mut libc::passwd = ptr::null_mut();
        // SAFETY: `name` ends with NUL; `entry` and `found` are ours to write; `room` is writable for the length given. The
        // call keeps none of the pointers.
        let error = unsafe {
            libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), room.as_mut_ptr(), room.len(), &raw mut found)
        };
        match error {
            libc::ERANGE if room.len() < LINE_BYTES_MAX => room.resize(room.len() * 2, 0),
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: the call succeeded and found an entry, so `entry` is filled in; only numbers are taken from it.
                let entry = unsafe { entry.assume_init_ref() };
                break (entry.pw_uid, entry.pw_gid);
            }
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    };
    Ok(Some(User { uid, gid, groups: groups(&name, gid)? }))
}

/// The groups of a user, `gid` included.
fn groups(name: &CStr, gid: u32) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).map_err(io::Error::other)?;
        // SAFETY: `name` ends with NUL; `groups` is writable for the `count` entries announced; the call keeps no pointer.
        let result = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).map_err(io::Error::other)?;
        if result >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let wanted = count.max(groups.len() * 2);
        if wanted > GROUPS_MAX {
            return Err(io::Error::other("the user is in too many groups"));
        }
        groups.resize(wanted, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_for_itself_alone() {
        let nice = || rustix::process::getpriority_process(None).expect("ours");
        let before = nice();
        let after = std::thread::spawn(move || ask_for(Turns::Few).map(|()| nice())).join().expect("no panic");
        assert_eq!((after.expect("anybody may"), nice()), (10.max(before), before));
    }

    #[test]
    fn users_are_found_by_name() {
        let root = user("root").expect("readable").expect("every system has one");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(user("no-such-user-here").expect("readable"), None);
        assert!(user("a\0b").is_err());
    }
}
