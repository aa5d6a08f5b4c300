//! Forbids io_uring to a thread and what it starts, as a container's seccomp profile does: for tests of the fallback
//! (F-045, S-004). Not part of a release.

use std::io;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// From now on io_uring_setup fails with EPERM on this thread and on every thread and process that it starts. There is no
/// way back.
///
/// # Errors
/// When the kernel takes no filter.
pub fn refuse_io_uring() -> io::Result<()> {
    let op = |code: u32, value: u32, yes: u8, no: u8| libc::sock_filter {
        code: u16::try_from(code).expect("BPF codes are 16 bits"),
        jt: yes,
        jf: no,
        k: value,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let setup = u32::try_from(libc::SYS_io_uring_setup).expect("system call numbers are small");
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).expect("errnos are small");
    let mut filter = [
        op(load, ARCHITECTURE, 0, 0),
        op(equal, NATIVE, 0, 3),
        op(load, NUMBER, 0, 0),
        op(equal, setup, 0, 1),
        op(answer, refusal, 0, 0),
        op(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let length = u16::try_from(filter.len()).expect("six");
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: prctl with these arguments reads no memory of ours. Without the right to gain privileges an ordinary user
    // may install filters.
    let no_new_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if no_new_privileges != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` and the filter that it points to live until the call returns; the kernel copies both.
    let installed =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program)) };
    if installed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
