//! Microsoft Graph as postkey uses it: one file per resource, each with its calls' shapes and the functions that make
//! them. Knows tokens only as something a [`postkey_identity::TokenSource`] hands out, and nothing of the store.

pub mod answer;
pub mod app_role_assignments;
pub mod applications;
pub mod attachments;
pub mod batch;
mod call;
mod classify;
pub mod credentials;
pub mod delegated_grants;
pub mod error;
pub mod folders;
mod graph;
mod json;
pub mod mailbox;
pub mod messages;
pub mod non_delivery;
pub mod organization;
pub mod paging;
pub mod permissions;
mod remedy;
pub mod send_mail;
pub mod service_principals;
pub mod shape;
pub mod sign_ins;
#[cfg(test)]
mod testing;
pub mod throttling;
pub mod users;

pub use answer::Answer;
pub use call::REQUEST_LIMIT;
pub use credentials::{KeyCredential, NewCertificate, NewSecret, PasswordCredential};
pub use error::{GraphError, OutcomeClass, Unreadable};
pub use graph::Graph;
pub use mailbox::Mailbox;
pub use non_delivery::NonDelivery;
pub use paging::Pages;
pub use permissions::{Api, Permission};
pub use shape::{CallShape, Edition, Effect, Verb};
pub use throttling::{MailboxLimits, Pacer};
