//! The door `omsagent run`.

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it; the number is the exit code.
pub fn run(_args: Args) -> anyhow::Result<u8> {
    anyhow::bail!("this door is not built yet")
}
