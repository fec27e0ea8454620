defmodule Image.ZeroShot.CLI.Paths do
  @moduledoc false

  # From the words of a command line to files.

  alias Image.ZeroShot.Error

  # In a folder, only names like those of pictures count. A file that is named itself is always taken,
  # and fails if it is not a picture.
  @extensions ~w(.jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff)

  @typedoc "A folder that cannot be read, and why."
  @type unread :: {Path.t(), :file.posix()}

  @doc """
  Returns the files that the words stand for, in their order and sorted within a folder, and an error
  for each word that stands for none and for each folder that cannot be read.
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
      word =~ ~r/[*?\[{]/ and not File.exists?(word) -> wildcard(word)
      # A missing file fails in its turn, as a damaged one does.
      true -> {[word], []}
    end
  end

  defp wildcard(word) do
    word |> matches() |> found(word)
  rescue
    # What Erlang makes of a pattern that it cannot read.
    ErlangError ->
      {[],
       [
         "#{inspect(word)}: expected a wildcard, got one that cannot be read; close each brace, and leave " <>
           "out any / between braces"
       ]}
  end

  defp found({[], []}, word), do: {[], [empty(word)]}
  defp found({paths, unread}, _word), do: {paths, Enum.map(unread, &fault/1)}

  @spec empty(Path.t()) :: String.t()
  def empty(folder), do: "#{inspect(folder)}: contains no pictures"

  @spec fault(unread()) :: String.t()
  def fault({folder, reason}), do: Error.file(folder, reason).message

  defp matches(wildcard) do
    {paths, unread} =
      wildcard
      |> Path.wildcard()
      |> Enum.map(&if(File.dir?(&1), do: walk(&1), else: {[&1], []}))
      |> Enum.unzip()

    {Enum.concat(paths), Enum.concat(unread)}
  end

  @doc """
  Returns the pictures of a folder and of all folders in it, and the folders that cannot be read.
  """
  @spec walk(Path.t()) :: {[Path.t()], [unread()]}
  def walk(folder) do
    {paths, unread} = folder |> entries() |> Enum.split_with(&is_binary/1)
    {paths, Enum.uniq(unread)}
  end

  defp entries(folder) do
    case names(folder) do
      {:ok, names} -> for name <- names, found <- entry(folder, name), do: found
      {:error, reason} -> unread(folder, reason)
    end
  end

  # A link to a folder may lead back to where it is.
  defp entry(folder, name) do
    path = Path.join(folder, name)

    case File.lstat(path) do
      {:ok, %{type: :directory}} -> entries(path)
      {:ok, %{type: :symlink}} -> if picture?(name) and File.regular?(path), do: [path], else: []
      {:ok, %{type: :regular}} -> if picture?(name), do: [path], else: []
      {:ok, _neither} -> []
      {:error, reason} -> unread(folder, reason)
    end
  end

  # It was removed meanwhile.
  defp unread(_folder, :enoent), do: []
  defp unread(folder, reason), do: [{folder, reason}]

  defp picture?(name), do: name |> Path.extname() |> String.downcase(:ascii) |> known?()
  defp known?(extension), do: extension in @extensions

  # Names that are not valid in the system's encoding come as binaries; others are left out by
  # `File.ls/1`.
  defp names(folder) do
    with {:ok, names} <- :file.list_dir_all(folder),
         do: {:ok, names |> Enum.map(&bytes/1) |> Enum.reject(&hidden?/1) |> Enum.sort()}
  end

  defp bytes(name) when is_binary(name), do: name

  defp bytes(name),
    do: :unicode.characters_to_binary(name, :unicode, :file.native_name_encoding())

  defp hidden?(name), do: String.starts_with?(name, ".")
end
