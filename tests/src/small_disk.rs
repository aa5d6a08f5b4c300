//! A disk of a few MiB in memory, to be filled.

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A mounted file system of its own. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// A disk of `bytes` octets.
    ///
    /// # Errors
    /// Why there is none here: it needs root and mounts.
    ///
    /// # Panics
    /// When there is no folder to mount it on.
    pub fn of(bytes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs to be root".to_owned());
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"]).arg(folder.path());
        match command.output() {
            Ok(output) if output.status.success() => Ok(Self { folder }),
            Ok(output) => Err(format!("mount: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("mount: {error}")),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server under test may still have files open there.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}
