//! How a message leaves: route choice, Graph and SMTP.
