defmodule Image.ZeroShot.CLI.Paths do
  @moduledoc false

  # From the words of a command line to files.

  # In a folder, only names like those of pictures count. A file that is named itself is always taken,
  # and fails if it is not a picture.
  @extensions ~w(.jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff)

  @doc """
  Returns the files that the words stand for, in their order and sorted within a folder, and an error
  for each word that stands for none.
  """
  @spec expand([String.t()]) :: {[Path.t()], faults :: [String.t()]}
  def expand(words) do
    {paths, faults} = words |> Enum.map(&expand_word/1) |> Enum.unzip()
    {Enum.concat(paths), Enum.concat(faults)}
  end

  # A file can be called like a wildcard.
  defp expand_word(word) do
    cond do
      File.dir?(word) -> word |> walk() |> found(word)
      word =~ ~r/[*?\[{]/ and not File.exists?(word) -> word |> matches() |> found(word)
      # A missing file fails in its turn, as a damaged one does.
      true -> {[word], []}
    end
  end

  defp found([], word), do: {[], ["#{inspect(word)}: contains no pictures"]}
  defp found(paths, _word), do: {paths, []}

  defp matches(wildcard) do
    wildcard
    |> Path.wildcard()
    |> Enum.flat_map(&if(File.dir?(&1), do: walk(&1), else: [&1]))
  end

  defp walk(folder) do
    for name <- names(folder), path <- entry(Path.join(folder, name), name), do: path
  end

  # A link to a folder may lead back to where it is.
  defp entry(path, name) do
    case File.lstat(path) do
      {:ok, %{type: :directory}} -> walk(path)
      {:ok, %{type: :symlink}} -> if picture?(name) and File.regular?(path), do: [path], else: []
      {:ok, %{type: :regular}} -> if picture?(name), do: [path], else: []
      _neither -> []
    end
  end

  defp picture?(name), do: name |> Path.extname() |> String.downcase(:ascii) |> known?()
  defp known?(extension), do: extension in @extensions

  # Names that are not valid in the system's encoding come as binaries; others are left out by
  # `File.ls/1`.
  defp names(folder) do
    case :file.list_dir_all(folder) do
      {:ok, names} -> names |> Enum.map(&bytes/1) |> Enum.reject(&hidden?/1) |> Enum.sort()
      {:error, _reason} -> []
    end
  end

  defp bytes(name) when is_binary(name), do: name

  defp bytes(name),
    do: :unicode.characters_to_binary(name, :unicode, :file.native_name_encoding())

  defp hidden?(name), do: String.starts_with?(name, ".")
end
