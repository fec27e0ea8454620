//! Where to fetch from, where to keep it, and how long to try.

use std::path::PathBuf;
use std::time::Duration;

use crate::environment::Environment;
use crate::error::Result;
use crate::token::{Token, TokenChoice};

/// Everything [`fetch`](crate::fetch) has to know beside the repository.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Address of the hub.
    pub endpoint: String,
    /// Directory of the cache, the one with `models--org--name` in it.
    pub cache_dir: PathBuf,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<Token>,
    /// Never sends a request.
    pub offline: bool,
    /// Asks the hub which commit a branch is at, even where the cache has one.
    pub refresh: bool,
    /// Certificates, in PEM, to trust instead of Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// Most bytes a model may have, all its files together.
    pub max_bytes: u64,
    /// Whether a snapshot has links to its content. Where the file system has none, and without
    /// this, it has the content itself.
    pub symlinks: bool,
    /// When an answer takes too long.
    pub timeouts: Timeouts,
    /// How often to try again.
    pub retries: Retries,
}

/// When an answer takes too long.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// To find the host and connect to it.
    pub connect: Duration,
    /// From the request to the whole head of the answer.
    pub response: Duration,
    /// Without a single byte.
    pub stall: Duration,
    /// Fewest bytes per second, over any period of twice `stall`.
    pub slowest: u64,
    /// Without progress of another process that downloads the same file.
    pub lock: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            slowest: 1024,
            lock: Duration::from_secs(300),
        }
    }
}

/// How often to try again what may succeed a little later.
#[derive(Debug, Clone)]
pub struct Retries {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for every further one.
    pub pause: Duration,
    /// Longest wait, and the longest that a hub can ask for before we give up at once.
    pub longest: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

/// What a caller sets over the environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Instead of `HF_ENDPOINT`.
    pub endpoint: Option<String>,
    /// Instead of `HF_HUB_CACHE`.
    pub cache_dir: Option<PathBuf>,
    /// Instead of `HF_TOKEN` and the token file.
    pub token: TokenChoice,
    /// Instead of `HF_HUB_OFFLINE`.
    pub offline: Option<bool>,
}

impl HubOptions {
    /// The defaults, with this cache directory and no token, whatever the environment says.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            cache_dir: cache_dir.into(),
            token: None,
            offline: false,
            refresh: false,
            ca_file: None,
            max_bytes: 16 << 30,
            symlinks: true,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
        }
    }

    /// What the environment of this process says, as Python's `huggingface_hub` reads it.
    pub fn from_env(overrides: &Overrides) -> Result<Self> {
        Self::from_vars(&|name| std::env::var(name).ok(), overrides)
    }

    /// The same with variables from elsewhere: a VM may keep an environment of its own.
    pub fn from_vars(
        variable: &dyn Fn(&str) -> Option<String>,
        overrides: &Overrides,
    ) -> Result<Self> {
        let environment = Environment::new(variable);
        let cache_dir = match &overrides.cache_dir {
            Some(cache_dir) => cache_dir.clone(),
            None => environment.hub_cache()?,
        };
        let mut options = Self::new(cache_dir);
        if let Some(endpoint) = overrides.endpoint.clone().or_else(|| environment.endpoint()) {
            options.endpoint = endpoint;
        }
        options.token = match &overrides.token {
            TokenChoice::Implicit => environment.token()?,
            TokenChoice::Without => None,
            TokenChoice::Explicit(token) => Some(token.clone()),
        };
        options.offline = overrides.offline.unwrap_or_else(|| environment.offline());
        options.ca_file = environment.ca_file();
        options.symlinks = environment.symlinks();
        Ok(options)
    }
}
