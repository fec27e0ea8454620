//! Fetches a model by name and says where it lies.
//!
//! ```text
//! cargo run --release -p clip_hub --example fetch -- openai/clip-vit-base-patch32 [main]
//! ```
//!
//! The variables of Hugging Face's tools apply: `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` and so on.
//! The last line of the output is the directory.

use std::error::Error;
use std::ops::ControlFlow;

use clip_hub::{HubOptions, Overrides, Progress, Repo};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("usage: fetch ORG/NAME [REVISION]")?;
    let repo = Repo::new(&name, &arguments.next().unwrap_or_else(|| "main".to_owned()))?;
    let options = HubOptions::from_env(&Overrides::default())?;
    let snapshot = clip_hub::fetch(&repo, &options, &mut |step| {
        match step {
            Progress::Planned { files, bytes, cached, .. } => {
                println!("{files} files, {bytes} bytes to come, {cached} cached");
            }
            Progress::Finished { file, bytes } => println!("{file}: {bytes} bytes"),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    match snapshot {
        Ok(snapshot) => println!("{}", snapshot.directory.display()),
        Err(error) => {
            eprintln!("{}: {error}", error.kind().as_str());
            std::process::exit(1);
        }
    }
    Ok(())
}
