# Writes the settings of the documentation to a file, and the version to the output.
[path] = System.argv()
config = Mix.Project.config()

settings =
  for {name, value} <- [source_url: config[:source_url]] ++ config[:docs],
      value != nil,
      do: {name, value}

File.write!(path, inspect(settings, limit: :infinity, printable_limit: :infinity))
IO.write(config[:version])
