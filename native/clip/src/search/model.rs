//! Whose vectors an index holds.

/// The model that made the vectors. Vectors of different models cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its commit, where it has one.
    pub commit: Option<String>,
    /// The number of components of its vectors.
    pub dim: usize,
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.commit {
            Some(commit) => write!(f, "{:?} at {commit}", self.name),
            None => write!(f, "{:?} ({} dimensions)", self.name, self.dim),
        }
    }
}
