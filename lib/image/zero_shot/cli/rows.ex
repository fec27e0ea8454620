defmodule Image.ZeroShot.CLI.Rows do
  @moduledoc false

  # Results as text: a table for people, JSON Lines and CSV for programs.

  import Image.ZeroShot.CLI.JSON, only: [string: 1]

  alias Image.ZeroShot.CLI.Output
  alias Image.ZeroShot.Error

  # Wider names and labels stand out of their column.
  @widest_name 60
  @widest_label 30

  @enforce_keys [:format, :name, :label, :scores]
  defstruct [:format, :name, :label, :scores]

  @type t :: %__MODULE__{
          format: :table | :json | :csv,
          name: non_neg_integer(),
          label: non_neg_integer(),
          scores: atom()
        }

  @type result :: {:ok, [%{label: String.t(), score: float()}]} | {:error, Error.t()}

  @doc """
  A table is aligned by what is known before the first result: the names and the labels. It shows scores that are
  parts of 1 as percents.
  """
  @spec new(:table | :json | :csv, [Path.t()], [String.t()], atom()) :: t()
  def new(format, paths, labels, scores \\ :softmax) do
    %__MODULE__{
      format: format,
      name: widest(paths, @widest_name),
      label: widest(labels, @widest_label),
      scores: scores
    }
  end

  defp widest(texts, most) do
    Enum.reduce(texts, 0, fn text, widest -> text |> plain() |> String.length() |> max(widest) end)
    |> min(most)
  end

  @spec head(t()) :: iodata()
  def head(%{format: :csv}), do: line(["path", "label", "score", "error"])
  def head(_rows), do: []

  @doc """
  Returns the row of a picture as bytes. A table has no row for a picture that failed.
  """
  @spec row(t(), Path.t(), result()) :: iodata()
  def row(%{format: :table}, _path, {:error, _error}), do: []

  def row(%{format: :table} = rows, path, {:ok, results}) do
    cells =
      for %{label: label, score: score} <- results,
          do: [shown(score, rows.scores), "  ", plain(label)]

    cells = if cells == [], do: ["-"], else: cells
    # Scores take seven columns, and two stand between them and the label.
    padded = cells |> Enum.map(&pad(&1, rows.label + 9)) |> Enum.intersperse("  ")
    text = IO.iodata_to_binary([path |> plain() |> pad(rows.name), "  ", padded])
    [String.trim_trailing(text), "\n"]
  end

  def row(%{format: :json}, path, {:ok, results}) do
    results =
      for %{label: label, score: score} <- results,
          do: ["{\"label\":", string(label), ",\"score\":", Float.to_string(score), "}"]

    ["{", members(path), ",\"results\":[", Enum.intersperse(results, ","), "]}\n"]
  end

  def row(%{format: :json}, path, {:error, error}) do
    reason = ["{\"reason\":", string(to_string(error.reason))]
    ["{", members(path), ",\"error\":", reason, ",\"message\":", string(error.message), "}}\n"]
  end

  def row(%{format: :csv}, path, {:ok, []}), do: line([path, "", "", ""])

  def row(%{format: :csv}, path, {:ok, results}) do
    for %{label: label, score: score} <- results,
        do: line([path, label, Float.to_string(score), ""])
  end

  def row(%{format: :csv}, path, {:error, error}), do: line([path, "", "", error.message])

  @doc """
  Keeps names of files and labels on one line, without control characters for the terminal.
  """
  @spec plain(String.t()) :: String.t()
  def plain(text) do
    if String.valid?(text) and not (text =~ ~r/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u),
      do: text,
      else: text |> inspect(binaries: :as_strings, printable_limit: :infinity) |> Output.visible()
  end

  defp shown(score, plain) when plain in [:cosine, :logits],
    do: score |> :erlang.float_to_binary(decimals: 4) |> String.pad_leading(7)

  defp shown(score, _part_of_1) do
    percent = :erlang.float_to_binary(score * 100, decimals: 1)
    String.pad_leading(percent, 5) <> " %"
  end

  defp pad(text, width), do: text |> IO.iodata_to_binary() |> String.pad_trailing(width)

  @doc """
  A path as members of a JSON object. JSON has no bytes: a name that is not text comes twice, once to read
  and once to find the file.
  """
  @spec members(Path.t()) :: iodata()
  def members(path) do
    if String.valid?(path),
      do: ["\"path\":", string(path)],
      else: ["\"path\":", string(path), ",\"path_base64\":\"", Base.encode64(path), "\""]
  end

  @doc """
  A line of CSV, as in RFC 4180.
  """
  @spec line([String.t()]) :: iodata()
  def line(fields), do: [fields |> Enum.map(&field/1) |> Enum.intersperse(","), "\r\n"]

  defp field(text) do
    if String.contains?(text, [",", "\"", "\r", "\n"]) or text =~ ~r/\A\s|\s\z/,
      do: [?", String.replace(text, "\"", "\"\""), ?"],
      else: text
  end
end
