"""Where frames come from: streams, files, folders and webcams, each read by a child process."""
