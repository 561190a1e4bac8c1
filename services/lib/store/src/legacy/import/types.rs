//! What an import brings, and what became of it.

use millrace_domain::{ChrootName, FileName, Limits, Name, RepositoryUrl, SourceUrl, TaskState};

use crate::row::Time;

/// A build of another site, as its list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedBuild {
    /// The build's number at the other site, which it keeps here.
    pub id: i64,
    /// The project that it belonged to.
    pub project: ImportedProject,
    /// Number of the submitter's account there; an account without a known name is called `user<ID>`.
    pub submitter_id: i64,
    /// Source packages with their addresses, in order; at least one.
    pub sources: Vec<(FileName, SourceUrl)>,
    /// Chroots, in the order submitted.
    pub chroots: Vec<ChrootName>,
    /// Extra repositories, as submitted.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// The memory class of these limits.
    pub memory_class: String,
    /// When it was submitted.
    pub submitted_at: Time,
    /// When the build was started there; none if it never was.
    pub started_at: Option<Time>,
    /// When the build ended there; none while it waits.
    pub ended_at: Option<Time>,
    /// `waiting`, or the terminal state in which it ended there.
    pub state: TaskState,
    /// Address of the results, which stay where they are.
    pub results: Option<SourceUrl>,
}

/// A project of another site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedProject {
    /// The project's number there, which pollers go on to see.
    pub id: i64,
    /// The project's name, without its owner.
    pub name: Name,
    /// Number of the owner's account there.
    pub owner_id: i64,
    /// The owner's name; `user<ID>` is used where it is not known.
    pub owner: Option<Name>,
    /// Chroots that the project offers there.
    pub chroots: Vec<ChrootName>,
    /// Extra repositories of the project.
    pub repositories: Vec<RepositoryUrl>,
    /// When the project was created there.
    pub created_at: Option<Time>,
}

/// Answer to an import; each list holds numbers of builds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Builds that this import stored.
    pub imported: Vec<i64>,
    /// Builds that had been imported before.
    pub known: Vec<i64>,
    /// Numbers that builds of our own have; with a single one of them nothing is imported.
    pub taken: Vec<i64>,
}
