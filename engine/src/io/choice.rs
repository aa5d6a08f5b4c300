//! A driver by name.

use std::fmt;
use std::str::FromStr;

/// A driver as `--driver` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// The best that this machine allows: `uring`, else `epoll`.
    #[default]
    Auto,
    /// Our own reactor on io_uring.
    Uring,
    /// The same interface on the tokio-uring crate.
    TokioUring,
    /// tokio on epoll.
    Epoll,
}

impl FromStr for DriverChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "tokio-uring" => Ok(Self::TokioUring),
            "epoll" => Ok(Self::Epoll),
            other => Err(format!("no driver is called {other:?}: auto, uring, tokio-uring or epoll")),
        }
    }
}

impl fmt::Display for DriverChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::TokioUring => "tokio-uring",
            Self::Epoll => "epoll",
        })
    }
}
