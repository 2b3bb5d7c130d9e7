//! stub
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    crate::packages::prepare(&Default::default()).map(|it| println!("{it:?}"))
}
