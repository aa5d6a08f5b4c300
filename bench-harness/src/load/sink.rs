//! `component sink -- --listen ADDR --name NAME [--no-chunking]`: a sink as a process of ours.

use crate::exit::{Exit, UsageError};
use crate::process::child::say;
use clap::Parser;
use loadgen::sink::admin::AdminAddress;
use loadgen::sink::{SinkOptions, start};
use std::net::{Ipv4Addr, SocketAddr};

#[derive(Debug, Parser)]
#[command(name = "sink", no_binary_name = true)]
struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    name: String,
    #[arg(long)]
    no_chunking: bool,
}

/// Runs it until it is stopped or killed.
///
/// # Errors
/// The address is taken, or a shard fails.
pub fn main(args: &[String]) -> anyhow::Result<Exit> {
    let args = Args::try_parse_from(args).map_err(|error| UsageError(error.to_string()))?;
    let sink = start(SinkOptions {
        listen: vec![args.listen],
        name: args.name,
        chunking: !args.no_chunking,
        admin: Some(AdminAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))),
        ..SinkOptions::default()
    })?;
    let listen: Vec<String> = sink.listen.iter().map(SocketAddr::to_string).collect();
    let admin = sink.admin.as_ref().map(ToString::to_string);
    say(&format!("ready {}", serde_json::json!({ "listen": listen, "admin": admin, "driver": sink.driver })))?;
    sink.join()?;
    Ok(Exit::Good)
}
