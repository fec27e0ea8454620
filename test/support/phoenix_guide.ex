defmodule Image.ZeroShot.Test.PhoenixGuide do
  @moduledoc false

  # What a reader of the guide "Phoenix" has at its end: the files that Phoenix generates, with the
  # changes that the guide shows, and those that it adds.

  alias Image.ZeroShot.Packaging
  alias Image.ZeroShot.Test.Markdown

  @guide "guides/phoenix.md"
  @generated "test/fixtures/phoenix"
  @named ~r/\A# (\S+\/\S+?)(: append)?\n/

  @type project :: %{String.t() => {line :: pos_integer(), code :: String.t()}}

  @doc "The files by their path, each with the line of the guide that it begins at, or `1`."
  @spec project(project()) :: project()
  def project(generated \\ generated()),
    do: Enum.reduce(additions() ++ changes(), generated, &follow/2)

  @doc "The changes for two nodes on top of that."
  @spec clustered(project()) :: project()
  def clustered(project), do: Enum.reduce(cluster_changes(), project, &follow/2)

  @doc "The configuration of the library in this environment."
  @spec config(project(), atom()) :: keyword()
  def config(project, env) do
    {_line, code} = Map.fetch!(project, "config/runtime.exs")
    path = Path.join(Packaging.folder!("phoenix"), "runtime.exs")
    File.write!(path, code)

    Packaging.with_env(%{"SECRET_KEY_BASE" => "secret"}, fn ->
      Config.Reader.read!(path, env: env, target: :host)[:image_zero_shot]
    end)
  end

  defp generated do
    for path <- Path.wildcard("#{@generated}/**/*.txt"), into: %{} do
      {path |> Path.relative_to(@generated) |> Path.rootname(), {1, File.read!(path)}}
    end
  end

  defp additions, do: @guide |> File.read!() |> Markdown.blocks("elixir")
  defp changes, do: all_changes() -- cluster_changes()

  defp cluster_changes,
    do: for({_line, diff} = change <- all_changes(), cluster?(diff), do: change)

  defp all_changes, do: @guide |> File.read!() |> Markdown.blocks("diff")

  defp cluster?(diff), do: diff =~ "CLIP_SERVING" or diff =~ "Enum.filter(children"

  defp follow({line, code}, project) do
    [named, path | append] = Regex.run(@named, code)
    rest = String.replace_prefix(code, named, "")

    cond do
      append != [] -> update(project, path, &(&1 <> "\n" <> rest))
      rest =~ ~r/^[+-]/m -> update(project, path, &change(&1, rest, path))
      true -> Map.put_new(project, path, {line, code})
    end
  end

  defp update(project, path, function) do
    {line, text} = Map.fetch!(project, path)
    Map.put(project, path, {line, function.(text)})
  end

  # As `patch`, with one place where it fits.
  defp change(text, diff, path) do
    lines = diff |> String.trim_trailing("\n") |> String.split("\n")
    before = side(lines, "+")

    case String.split(text, before) do
      [head, tail] -> head <> side(lines, "-") <> tail
      parts -> raise "#{path}: fits in #{length(parts) - 1} places:\n#{before}"
    end
  end

  defp side(lines, without) do
    for line <- lines, not String.starts_with?(line, without), into: "" do
      String.slice(line, 1..-1//1) <> "\n"
    end
  end
end
