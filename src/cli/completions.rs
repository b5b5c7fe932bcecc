//! `modelfs completions`: the shell's completion script, made from the definition of the arguments.

use super::arguments::Arguments;
use super::error::Failure;
use super::exit;
use super::output::Output;
use super::verb_arguments::CompletionsArguments;
use clap::CommandFactory;

pub fn write(wanted: &CompletionsArguments, output: &mut Output) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, &mut Arguments::command(), "modelfs", &mut script);
    output.bytes(&script)?;
    output.finish()?;
    Ok(exit::SUCCESS)
}
