// Sockets: the few questions that the ranks ask the network of their host. Knows no libtorch.
#pragma once

#include <string>

#include "rigwise/result.h"

namespace rigwise::engine {

/// This host's name, safe to print.
std::string host_name();

/// A listening socket on `port` (0: any free one) of every interface, or of the loopback one where
/// `host` names it. The caller closes it. Errors: unavailable (the port is taken), io.
Result<int> listen_on(const std::string& host, int port);
Result<int> port_of(int fd);

/// The address that this host would speak from to reach `host` (no packet is sent).
/// Errors: unavailable (no such host, no route).
Result<std::string> address_towards(const std::string& host);

/// The interface that has `address`. Errors: unavailable.
Result<std::string> interface_of(const std::string& address);

/// Ends every TCP connection of this process but those from or to `except_port`: peers that wait
/// for us hear at once that nothing more will come. For a process that is going down.
void end_connections(int except_port);

/// Names of this host's interfaces that are up and have an address, for an error's hint.
std::string interface_names();

}  // namespace rigwise::engine
