//! What the files of `hale up` declare, and telling the server of it (N19).

use std::{collections::BTreeSet, path::PathBuf};

use hale_model::{
    cluster::Owner,
    document::{self, Document},
    file::Declared,
};
use hale_server::{
    Control as _,
    cluster::{
        Cluster,
        desired::{DesiredError, Person},
    },
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

    /// Makes them what is wanted of what an earlier `up` declared, before the node asks what is: what was changed or taken
    /// out since must not be started once more as it was. What is new comes with [`Self::declare`], when there is a node
    /// to place it on.
    ///
    /// # Errors
    /// Nothing can be read or written.
    pub(super) async fn declare_known(&self, cluster: &Cluster) -> Result<(), Failure> {
        let known = cluster.overview().await.map_err(Failure::failed)?;
        let known: BTreeSet<&str> = (known.workloads.iter().map(|it| it.name.as_str()))
            .chain(known.targets.iter().map(|it| it.name.as_str()))
            .collect();
        let documents: Vec<Document> =
            self.documents.iter().filter(|it| known.contains(it.name.as_str())).cloned().collect();
        match cluster.apply(&documents, Owner::Up, &Person::new("hale up"), false).await {
            Ok(_) => Ok(()),
            // They need what is new.
            Err(DesiredError::Invalid(_)) => self.declare(cluster).await,
            Err(error) => Err(Failure::failed(error)),
        }
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
