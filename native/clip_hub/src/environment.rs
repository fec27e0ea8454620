//! Variables of Hugging Face's tools, with the precedence Python's `huggingface_hub` gives them.
//!
//! So both find the same cache and the same token. `hf_hub::Cache::from_env` does not: it reads
//! only `HF_HOME`, and panics without a home directory.

use std::path::PathBuf;

use clip::checkpoint::files;
use clip::error::Remedy;

use crate::error::{Error, ErrorKind, Result};
use crate::options::{HubOptions, Token};

/// Largest file with a token that is read.
const MAX_TOKEN: u64 = 64 * 1024;

/// Settings that take precedence over the environment.
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

/// The token to use.
#[derive(Debug, Clone, Default)]
pub enum TokenChoice {
    /// That of the environment or of `hf auth login`, if there is one.
    #[default]
    Implicit,
    /// None.
    Without,
    /// This one.
    Explicit(Token),
}

impl HubOptions {
    /// Reads the environment of this process as Python's `huggingface_hub` does.
    pub fn from_env(overrides: &Overrides) -> Result<Self> {
        Self::from_vars(&|name| std::env::var(name).ok(), overrides)
    }

    /// Same as [`HubOptions::from_env`], but with variables from elsewhere: a VM may keep an
    /// environment of its own.
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

struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Environment<'a> {
    fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { variable }
    }

    /// Returns a variable. An empty one counts as unset.
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        let value = self.get(name).unwrap_or_default().to_ascii_uppercase();
        ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(|value| PathBuf::from(self.expand(&value)))
    }

    fn endpoint(&self) -> Option<String> {
        self.get("HF_ENDPOINT")
    }

    fn offline(&self) -> bool {
        self.is_true("HF_HUB_OFFLINE") || self.is_true("TRANSFORMERS_OFFLINE")
    }

    fn symlinks(&self) -> bool {
        !self.is_true("HF_HUB_DISABLE_SYMLINKS")
    }

    /// The variables of curl, OpenSSL and Python's clients.
    fn ca_file(&self) -> Option<PathBuf> {
        self.path("SSL_CERT_FILE").or_else(|| self.path("REQUESTS_CA_BUNDLE"))
    }

    /// Returns `None` for a service without a home. The system's list of users does not help: for
    /// such a service it says `/`.
    fn hf_home(&self) -> Option<PathBuf> {
        self.path("HF_HOME").or_else(|| {
            let cache = self.path("XDG_CACHE_HOME");
            let cache = cache.or_else(|| Some(PathBuf::from(self.get("HOME")?).join(".cache")));
            Some(cache?.join("huggingface"))
        })
    }

    fn hub_cache(&self) -> Result<PathBuf> {
        // The second is the old name of the first.
        self.path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(self.hf_home()?.join("hub")))
            .ok_or_else(|| {
                let message = "no directory to keep models in: neither HOME nor XDG_CACHE_HOME is \
                               set; set HF_HOME to a directory that can be written, or";
                Error::new(ErrorKind::CacheNotWritable, message).with_remedy(Remedy::NameHubCache)
            })
    }

    /// Returns the token to use when the caller names none.
    fn token(&self) -> Result<Option<Token>> {
        if self.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        let text = self.get("HF_TOKEN").or_else(|| self.get("HUGGING_FACE_HUB_TOKEN"));
        let text = text.or_else(|| {
            let path = self.path("HF_TOKEN_PATH");
            let path = path.or_else(|| Some(self.hf_home()?.join("token")))?;
            String::from_utf8(files::read(&path, MAX_TOKEN).ok()??).ok()
        });
        text.filter(|text| !text.trim().is_empty()).map(|text| Token::new(&text)).transpose()
    }

    /// Expands `~`, and `$NAME` or `${NAME}` as a whole part of the path.
    fn expand(&self, path: &str) -> String {
        let parts = path.split('/').enumerate().map(|(index, part)| match part {
            "~" if index == 0 => self.get("HOME").unwrap_or_else(|| part.to_owned()),
            _ => {
                let name = part.strip_prefix('$').unwrap_or_default();
                let name = name.strip_prefix('{').and_then(|n| n.strip_suffix('}')).unwrap_or(name);
                self.get(name).unwrap_or_else(|| part.to_owned())
            }
        });
        parts.collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn options(variables: &[(&str, &str)], overrides: &Overrides) -> HubOptions {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        HubOptions::from_vars(&get, overrides).unwrap()
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        options(variables, &Overrides::default()).cache_dir.to_string_lossy().into_owned()
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let home = ("HOME", "/home/me");
        assert_eq!(cache(&[home]), "/home/me/.cache/huggingface/hub");
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        assert_eq!(cache(&[home, xdg]), "/xdg/huggingface/hub");
        let hf_home = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[home, xdg, hf_home]), "/home/me/hf/hub");
        let old = ("HUGGINGFACE_HUB_CACHE", "$DISK/old");
        assert_eq!(cache(&[home, hf_home, old, ("DISK", "/disk")]), "/disk/old");
        let new = ("HF_HUB_CACHE", "${DISK}/new");
        assert_eq!(cache(&[home, hf_home, old, new, ("DISK", "/disk")]), "/disk/new");
        assert_eq!(cache(&[home, ("HF_HUB_CACHE", "")]), "/home/me/.cache/huggingface/hub");
    }

    #[test]
    fn without_a_home_the_cache_has_to_be_named() {
        let of = |variables: &[(&str, &str)]| {
            let get = |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            HubOptions::from_vars(&get, &Overrides::default())
        };
        for homeless in [&[][..], &[("HOME", ""), ("XDG_CACHE_HOME", "")]] {
            let error = of(homeless).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CacheNotWritable);
            let message = error.to_string();
            assert!(
                message.contains("HF_HOME") && message.ends_with(", or name one for the cache"),
                "{message}"
            );
        }
        assert_eq!(cache(&[("HF_HOME", "/hf")]), "/hf/hub");
        let overrides = Overrides { cache_dir: Some("/own".into()), ..Overrides::default() };
        assert_eq!(options(&[], &overrides).cache_dir, PathBuf::from("/own"));
    }

    #[test]
    fn the_token_comes_from_call_variable_or_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", directory.path().to_str().unwrap());
        let none = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        let token = |variables: &[(&str, &str)], choice: TokenChoice| {
            let overrides = Overrides { token: choice, ..Overrides::default() };
            options(variables, &overrides).token.map(|token| token.header())
        };
        let implicit = TokenChoice::Implicit;
        assert_eq!(token(&[home], implicit.clone()).unwrap(), "Bearer hf_file");
        let variable = ("HF_TOKEN", " hf_env ");
        assert_eq!(token(&[home, variable], implicit.clone()).unwrap(), "Bearer hf_env");
        assert_eq!(token(&[home, variable, none], implicit), None);
        let explicit = TokenChoice::Explicit(Token::new("hf_own").unwrap());
        assert!(!format!("{explicit:?}").contains("hf_own"));
        assert_eq!(token(&[home, variable, none], explicit).unwrap(), "Bearer hf_own");
        assert_eq!(token(&[home, variable], TokenChoice::Without), None);
    }

    #[test]
    fn switches_are_read_as_huggingface_hub_does() {
        let home = ("HOME", "/home/me");
        let offline =
            |value| options(&[home, ("HF_HUB_OFFLINE", value)], &Overrides::default()).offline;
        assert!(offline("1") && offline("True") && offline("on"));
        assert!(!offline("0") && !offline("") && !offline("false"));
        let overrides = Overrides { offline: Some(false), ..Overrides::default() };
        assert!(!options(&[home, ("HF_HUB_OFFLINE", "1")], &overrides).offline);
        let symlinks = |value| {
            let variables = [home, ("HF_HUB_DISABLE_SYMLINKS", value)];
            options(&variables, &Overrides::default()).symlinks
        };
        assert!(symlinks("0") && symlinks("") && !symlinks("1") && !symlinks("true"));
        let mirror = [home, ("HF_ENDPOINT", "https://mirror.test")];
        assert_eq!(options(&mirror, &Overrides::default()).endpoint, "https://mirror.test");
    }
}
