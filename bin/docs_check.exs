# Ends bin/docs with a sentence where ExDoc cannot read what the compiler of this Elixir wrote.

# The Elixir that an escript has in it, `nil` for any other program.
[ex_doc] = System.argv()
elixir_app? = fn file -> file |> elem(1) |> Path.basename() == "elixir.app" end

built =
  with {:ok, sections} <- :escript.extract(String.to_charlist(ex_doc), []),
       archive when is_binary(archive) <- sections[:archive],
       {:ok, [{_name, app} | _]} <- :zip.unzip(archive, [:memory, file_filter: elixir_app?]),
       [_, version] <- Regex.run(~r/{vsn,\s*"([^"]+)"}/, app) do
    version
  else
    _no_escript -> nil
  end

running = System.version()
series = fn version -> version |> String.split(".") |> Enum.take(2) end

fault =
  cond do
    built != nil and series.(built) != series.(running) ->
      "#{ex_doc} was built with Elixir #{built}, and this is #{running}: " <>
        "run `mix escript.install --force hex ex_doc` with this Elixir"

    not Version.match?(running, ">= 1.15.0") ->
      "ExDoc needs Elixir 1.15 or later, and this is #{running}"

    true ->
      nil
  end

if fault do
  IO.puts(:stderr, "bin/docs: #{fault}")
  System.halt(1)
end
