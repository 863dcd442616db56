//! The recorded dialogs of devices and clients, over a socket.
