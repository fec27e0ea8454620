defmodule Image.ZeroShot.NativeFilesTest do
  # What `mix xref graph --format cycles` shows for Elixir, for the Rust files: arrows point one way. A file
  # may use those above it, whose parts it is (`super`).
  use ExUnit.Case, async: true

  for source <- Path.wildcard("native/*/src"),
      crate = source |> Path.dirname() |> Path.basename() do
    test "no files of #{crate} use each other in a circle" do
      assert unquote(source) |> arrows() |> circles() == %{}
    end
  end

  test "the arrows between files are found" do
    arrows = arrows("native/clip/src")
    assert ["image", "format"] in arrows[["image", "png"]]
    assert ["limits"] in arrows[["image", "png"]]
    assert ["image", "png", "chunks"] in arrows[["image", "png"]]
    refute ["image"] in arrows[["image", "png"]]
    assert arrows |> Map.values() |> Enum.concat() |> length() > 150
  end

  test "a circle is found" do
    assert circles(%{a: [:b], b: [:c], c: [:b], d: [:a]}) |> Map.keys() |> Enum.sort() == [:b, :c]
  end

  # Which modules each file of a crate uses, by the paths in its text.
  defp arrows(source) do
    files =
      for file <- Path.wildcard("#{source}/**/*.rs"),
          not String.contains?(file, "/bin/"),
          into: %{},
          do: {file |> Path.relative_to(source) |> module(), File.read!(file)}

    for {module, text} <- files, into: %{} do
      used =
        for path <- text |> code() |> paths(),
            target = file(resolve(path, module, files), files),
            target != [],
            not List.starts_with?(module, target),
            uniq: true,
            do: target

      {module, used}
    end
  end

  defp module(file) do
    file |> Path.rootname() |> Path.split() |> Enum.reject(&(&1 in ["lib", "main", "mod"]))
  end

  # Without comments, and without the tests at the end.
  defp code(text) do
    [code | _tests] = String.split(text, "#[cfg(test)]\nmod tests {")
    String.replace(code, ~r"//.*", "")
  end

  defp paths(code) do
    trees = for [_, tree] <- Regex.scan(~r/\buse\s+([^;]+);/, code), do: tree
    inline = for [path] <- Regex.scan(~r/\b(?:crate|super|self)(?:::\w+)+/, code), do: path
    for path <- inline ++ Enum.flat_map(trees, &spread/1), do: String.split(path, "::")
  end

  # `a::{b, c::d}` is `a::b` and `a::c::d`.
  defp spread(tree) do
    tree = String.replace(tree, ~r/\s+as\s+\w+|\s/, "")

    case Regex.run(~r/^(.*?)\{(.*)\}$/, tree) do
      nil -> [tree]
      [_, start, inner] -> for part <- split(inner), path <- spread(part), do: start <> path
    end
  end

  # At commas outside of braces.
  defp split(inner) do
    for [part | _] <- Regex.scan(~r/(?:[^,{}]|(\{(?:[^{}]|(?1))*\}))+/, inner), do: part
  end

  defp resolve(["crate" | rest], _module, _files), do: rest
  defp resolve(["self" | rest], module, _files), do: module ++ rest
  defp resolve(["super" | rest], module, files), do: up(rest, Enum.drop(module, -1), files)

  defp resolve([first | _] = path, module, files),
    do: if(Map.has_key?(files, module ++ [first]), do: module ++ path, else: [])

  defp up(["super" | rest], module, files), do: up(rest, Enum.drop(module, -1), files)
  defp up(rest, module, _files), do: module ++ rest

  # The longest part of a path that is a file.
  defp file([], _files), do: []

  defp file(path, files),
    do: if(Map.has_key?(files, path), do: path, else: path |> Enum.drop(-1) |> file(files))

  # What is left when all that use nothing any more are taken away, and then all that nothing uses.
  defp circles(arrows) do
    arrows |> peel() |> reverse() |> peel() |> reverse()
  end

  defp peel(arrows) do
    left =
      for {module, used} <- arrows,
          used = Enum.filter(used, &Map.has_key?(arrows, &1)),
          used != [],
          into: %{},
          do: {module, used}

    if left == arrows, do: arrows, else: peel(left)
  end

  defp reverse(arrows) do
    for {module, used} <- arrows, one <- used, reduce: %{} do
      reversed -> Map.update(reversed, one, [module], &[module | &1])
    end
  end
end
