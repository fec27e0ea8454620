defmodule Image.ZeroShot.Test.Explain do
  @moduledoc false

  # Pictures to explain, put together of emoji that the embedded model has not seen, and what is asked of
  # their maps.

  alias Image.ZeroShot
  alias Image.ZeroShot.Test.{JSON, Pictures}

  @folder "test/fixtures/emoji"
  # What the embedded model sees, and its patches.
  @side 64
  @patch 16

  @doc """
  Files and labels of emoji.
  """
  def emoji do
    for %{"file" => file, "label" => label, "candidates" => all} <-
          JSON.read!(Path.join(@folder, "labels.json")),
        do: %{path: {:path, Path.join(@folder, file)}, label: label, candidates: all}
  end

  @doc """
  A square picture with one picture left and another one right, each half of it.
  """
  def side_by_side(left, right) do
    {width, height} = {@side, 2 * @side}
    {:ok, left} = Pictures.planes(left, width, height)
    {:ok, right} = Pictures.planes(right, width, height)
    rows = for y <- 0..(height - 1), half <- [left, right], do: row(half, y, width, height)
    {:rgb, IO.iodata_to_binary(rows), height, 2 * width}
  end

  @doc """
  A picture as the embedded model sees it.
  """
  def seen(picture) do
    {:ok, planes} = Pictures.planes(picture, @side, @side)
    rows = for y <- 0..(@side - 1), do: row(planes, y, @side, @side)
    {:rgb, IO.iodata_to_binary(rows), @side, @side}
  end

  defp row(planes, y, width, height) do
    for x <- 0..(width - 1), channel <- 0..2 do
      :binary.at(planes, (channel * height + y) * width + x)
    end
  end

  @doc """
  A picture as the embedded model sees it, some of its patches white.
  """
  def without({:rgb, pixels, @side, @side}, patches) do
    columns = div(@side, @patch)

    pixels =
      for <<pixel::binary-3 <- pixels>>, reduce: {0, []} do
        {at, done} ->
          patch = div(div(at, @side), @patch) * columns + div(rem(at, @side), @patch)
          {at + 1, [done, if(patch in patches, do: <<255, 255, 255>>, else: pixel)]}
      end

    {:rgb, pixels |> elem(1) |> IO.iodata_to_binary(), @side, @side}
  end

  @doc """
  The sums of the left and of the right half of a map.
  """
  def halves(map) do
    {left, right} = map |> Enum.map(&Enum.split(&1, div(length(&1), 2))) |> Enum.unzip()
    {left |> List.flatten() |> Enum.sum(), right |> List.flatten() |> Enum.sum()}
  end

  @doc """
  What a label has more than the mean of the others, in cosines.
  """
  def lead(picture, labels, label, opts) do
    {[%{score: own}], others} =
      picture
      |> ZeroShot.classify(labels, [scores: :cosine] ++ opts)
      |> Enum.split_with(&(&1.label == label))

    own - Enum.sum(Enum.map(others, & &1.score)) / length(others)
  end
end
