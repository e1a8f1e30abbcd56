//! What the files of `hale up` declare, and telling the server of it (N19).

use std::path::PathBuf;

use hale_model::{
    cluster::Owner,
    document::{self, Document},
    file::Declared,
};
use hale_server::cluster::{
    Cluster,
    desired::{DesiredError, Person},
};

use crate::{failure::Failure, files};

/// What the files declare.
pub(super) struct Files {
    pub(super) declared: Declared,
    documents: Vec<Document>,
}

impl Files {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Failure::InvalidFile`] with every mistake, drawn.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let declared = files::read(paths)?;
        let documents = document::read_beside(paths).map_err(|errors| files::invalid(&errors))?;
        Ok(Self { declared, documents })
    }

    /// Takes back what an earlier `up` declared otherwise, before the node asks what is wanted: it must not be started
    /// once more as it was.
    ///
    /// # Errors
    /// Nothing can be written.
    pub(super) async fn forget_stale(&self, cluster: &Cluster) -> Result<(), Failure> {
        cluster.forget_stale(&self.documents).await.map_err(Failure::failed)
    }

    /// Makes them what is wanted of what `up` declares: what it had declared before and is not in them goes, what was
    /// applied beside stays.
    ///
    /// # Errors
    /// They do not go together with what was applied beside, or nothing can be written.
    pub(super) async fn declare(&self, cluster: &Cluster) -> Result<(), Failure> {
        let by = Person::new("hale up");
        match cluster.apply(&self.documents, Owner::Up, &by, false).await {
            Ok(_) => Ok(()),
            Err(DesiredError::Invalid(errors)) => Err(files::invalid(&errors)),
            Err(error) => Err(Failure::failed(error)),
        }
    }
}
